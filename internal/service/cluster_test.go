package service_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"mediaferry/internal/config"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
)

// natsEnv makes this test's binary a NATS server of deploy/nats/cluster.conf, since
// a server in this process cannot be killed.
const natsEnv = "MEDIAFERRY_TEST_CLUSTER"

// Addresses that a server has in place of those of the file.
const (
	clientPortEnv = "MEDIAFERRY_TEST_CLUSTER_PORT"
	routePortEnv  = "MEDIAFERRY_TEST_CLUSTER_ROUTE_PORT"
)

func runAsNATS() {
	if os.Getenv(natsEnv) == "" {
		return
	}
	opts, err := server.ProcessConfigFile("../../deploy/nats/cluster.conf")
	if err != nil {
		panic(err)
	}
	number := func(name string) int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			panic(err)
		}
		return n
	}
	opts.Host, opts.Port, opts.HTTPPort = quietHost(), number(clientPortEnv), 0
	opts.Cluster.Host, opts.Cluster.Port = quietHost(), number(routePortEnv)
	opts.NoLog = true
	s, err := server.NewServer(opts)
	if err != nil {
		panic(err)
	}
	s.Start()
	s.WaitForShutdown()
	os.Exit(0)
}

// cluster is three NATS servers, each a process.
type cluster struct {
	t       *testing.T
	servers map[string]*exec.Cmd // by name
	env     map[string][]string
	url     string
}

const clusterPassword = "cluster-test" // of everybody

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, servers: map[string]*exec.Cmd{}, env: map[string][]string{}}
	common := []string{natsEnv + "=1", "NATS_ROUTE_PASSWORD=" + clusterPassword}
	for _, user := range []string{"DISPATCHER", "WORKER", "SUBMITTER", "NOTIFIER"} {
		common = append(common, "NATS_"+user+"_PASSWORD="+clusterPassword)
	}
	var urls []string
	ports := map[string][2]string{}
	free := freeAddresses(t, 6)
	for i := range 3 {
		name := fmt.Sprintf("nats-%d", i)
		_, clients, err := net.SplitHostPort(free[2*i])
		if err != nil {
			t.Fatal(err)
		}
		_, routes, err := net.SplitHostPort(free[2*i+1])
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = [2]string{clients, routes}
		urls = append(urls, "nats://"+free[2*i])
		common = append(common, fmt.Sprintf("NATS_ROUTE_%d=nats://routes:%s@%s", i, clusterPassword, free[2*i+1]))
	}
	c.url = strings.Join(urls, ",")
	for name, p := range ports {
		c.env[name] = append([]string{"NATS_NAME=" + name, "NATS_STORE=" + t.TempDir(), clientPortEnv + "=" + p[0], routePortEnv + "=" + p[1]}, common...)
		c.start(name)
	}
	t.Cleanup(func() {
		for name := range c.servers {
			c.kill(name)
		}
	})
	return c
}

func (c *cluster) start(name string) {
	c.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(c.t.Context()), os.Args[0])
	cmd.Env = c.env[name]
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.servers[name] = cmd
}

// kill ends a server as the loss of its machine would.
func (c *cluster) kill(name string) {
	c.t.Helper()
	cmd := c.servers[name]
	delete(c.servers, name)
	if err := cmd.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		c.t.Error(err)
	}
}

// connect returns JetStream as the dispatchers' user sees it.
func (c *cluster) connect() jetstream.JetStream {
	c.t.Helper()
	conn, err := nats.Connect(c.url, nats.UserInfo("dispatcher", clusterPassword), nats.CustomInboxPrefix("_INBOX.dispatcher"),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// leader returns the server that leads the stream, "" for none yet, and how many
// servers keep it.
func leader(ctx context.Context, js jetstream.JetStream, stream string) (name string, replicas int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return "", 0
	}
	return s.CachedInfo().Cluster.Leader, s.CachedInfo().Config.Replicas
}

// The servers that lead JOBS and then ACKS are killed while uploads are under way,
// and come back. Nothing fails, and nothing is there twice.
func TestAServerOfTheClusterIsKilled(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	c := startCluster(t)
	js := c.connect()
	b.cfg.NATS = config.NATS{URL: c.url, User: "dispatcher", Password: clusterPassword}
	b.cfg.StreamReplicas = 3
	core, logged := observer.New(zap.InfoLevel)
	b.clusterProcesses(t, zap.New(core))

	const films = 6
	contents := map[string][]byte{}
	for i := range films {
		key := fmt.Sprintf("film-%d.mp4", i)
		contents[key] = b.put(t, key, 12*mib)
	}
	for _, stream := range []string{"JOBS", "ACKS", "SUBMIT", "RECORD", "EVENTS"} {
		if name, replicas := leader(t.Context(), js, stream); name == "" || replicas != 3 {
			t.Errorf("stream %s is led by %q and kept by %d", stream, name, replicas)
		}
	}

	// A server is killed when so many parts were put, while further ones go on.
	reached := map[int]chan struct{}{12: make(chan struct{}), 40: make(chan struct{})}
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut {
			if at := reached[nth]; at != nil {
				close(at)
			}
		}
		return true, nil
	})
	ids := map[string]string{}
	for key := range contents {
		ids[key] = b.submit(t, key).ID
	}
	for _, step := range []struct {
		at     int
		stream string
	}{{12, "JOBS"}, {40, "ACKS"}} {
		select {
		case <-reached[step.at]:
		case <-time.After(testPatience):
			t.Fatalf("part %d was never put", step.at)
		}
		var victim string
		eventually(t, "stream "+step.stream+" has a leader", func() bool {
			victim, _ = leader(t.Context(), js, step.stream)
			return victim != ""
		})
		t.Logf("killing %s, which leads %s", victim, step.stream)
		c.kill(victim)
		eventually(t, "stream "+step.stream+" has another leader", func() bool {
			name, _ := leader(t.Context(), js, step.stream)
			return name != "" && name != victim
		})
		c.start(victim)
	}
	for key, id := range ids {
		b.mustComplete(t, id, contents[key])
		seen := b.platform.Seen(uuid.MustParse(id))
		if seen.Begins != 1 || seen.Finishes != 1 {
			t.Errorf("%s: begun %d times, finished %d times", key, seen.Begins, seen.Finishes)
		}
	}
	if lost := logged.FilterMessageSnippet("the queue was lost"); lost.Len() > 0 {
		t.Errorf("a change of leader was taken for the loss of the queue: %v", lost.All())
	}
	if got := b.query(t)(`SELECT max_bytes::text FROM account_windows WHERE account = 'acc'`); got != strconv.Itoa(64*mib) {
		t.Errorf("the record has %s as the window's limit", got)
	}
}

// clusterProcesses starts a dispatcher and two workers, each as its user.
func (b *bundle) clusterProcesses(t *testing.T, log *zap.Logger) {
	t.Helper()
	b.loggedDispatcher(t, log)
	for _, id := range []string{"w1", "w2"} {
		cfg := config.Worker{
			ID: id, Pool: "default", Slots: 4, Staging: b.cfg.Staging, StopGrace: time.Second,
			NATS: config.NATS{URL: b.cfg.NATS.URL, User: "worker", Password: clusterPassword},
		}
		background(t, func(ctx context.Context) error { return service.RunWorker(ctx, cfg, b.known(), log) })
	}
}
