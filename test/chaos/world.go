package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // one of the platforms names files by it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/sealing"
	"mediaferry/internal/staging"
	"mediaferry/internal/upstreams"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	bucket     = "staging"
	archive    = "archive"
	window     = 32 * mib // of every account; the least that there may be
	slots      = 6        // of every worker
	pace       = 3 * mib  // bytes a second of one call
	stopGrace  = 20 * time.Second
	processEnd = stopGrace + 10*time.Second
)

// tenants each have an account at every platform.
var tenants = []string{"default", "acme"} //nolint:gochecknoglobals // a constant

// account is a destination, with the gate before it.
type account struct {
	name     string
	tenant   string
	provider string
	settings map[string]string
	secrets  map[string]string
	gate     *gate
	platform *platform
}

// world is everything that runs.
type world struct {
	opts      options
	dir       *devstack.Dir
	log       *os.File
	postgres  *devstack.Postgres
	s3        *devstack.S3
	objects   *staging.Store
	gateS3    *gate // before staging
	natsPort  int
	accounts  []*account
	platforms []*platform
	secrets   map[string]string // what must not be seen anywhere, by what it is
	processes *devstack.Processes
	roles     []*role
	apis      []string // of the dispatchers
	transport *http.Transport
	servers   []*upstreams.Server // before staging and the platforms
	stops     []func() error
}

// role is a process that is started again when it has ended.
type role struct {
	name    string
	kind    string // dispatcher, worker or nats
	command devstack.Command
	wire    *wire  // of a worker, to NATS
	metrics string // address; "" for none

	mu    sync.Mutex
	index int // in processes; -1 while it does not run
	pid   int
	ran   []sample
}

func (w *world) onStop(f func() error) { w.stops = append(w.stops, f) }

func (w *world) stop() error {
	var errs []error
	for _, f := range slices.Backward(w.stops) {
		errs = append(errs, f())
	}
	w.stops = nil
	return errors.Join(errs...)
}

func startWorld(ctx context.Context, opts options) (w *world, err error) {
	w = &world{opts: opts, secrets: make(map[string]string)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	if w.dir, err = devstack.TempDir(); err != nil {
		return w, err
	}
	w.onStop(w.dir.Close)
	if w.log, err = os.Create(opts.log()); err != nil {
		return w, fmt.Errorf("log of the processes: %w", err)
	}
	w.onStop(w.log.Close)
	for _, start := range []func(context.Context) error{w.startServers, w.startPlatforms, w.startProcesses} {
		if err := start(ctx); err != nil {
			return w, err
		}
	}
	return w, w.awaitReady(ctx)
}

func (w *world) startServers(ctx context.Context) (err error) {
	if w.postgres, err = devstack.StartPostgres(ctx, w.dir.Join("postgres"), devstack.PostgresOptions{}); err != nil {
		return err
	}
	w.onStop(func() error { w.postgres.Stop(); return nil })
	w.s3, err = devstack.StartS3(ctx, w.dir.Join("s3"), devstack.S3Options{Buckets: []string{bucket, archive}})
	if err != nil {
		return err
	}
	w.onStop(func() error { w.s3.Stop(); return nil })
	w.secrets["staging.secret_key"] = w.s3.Config().SecretKey.Reveal()
	if w.objects, err = staging.New(w.s3.Config()); err != nil {
		return err
	}
	w.onStop(func() error { w.objects.Close(); return nil })
	w.transport = http.DefaultTransport.(*http.Transport).Clone()
	w.transport.MaxIdleConnsPerHost = 64
	w.onStop(func() error { w.transport.CloseIdleConnections(); return nil })
	return nil
}

// serve puts a gate before the handler and returns its URL.
func (w *world) serve(ctx context.Context, name string, pace int, next http.Handler) (*gate, string, error) {
	g := newGate(name, w.opts.seed, pace, next)
	server, err := upstreams.Serve(ctx, "", g)
	if err != nil {
		return nil, "", err
	}
	w.onStop(server.Close)
	w.servers = append(w.servers, server)
	return g, server.URL, nil
}

const natsEnv = "MEDIAFERRY_CHAOS_NATS" // folder and port of a NATS server

// natsMain turns this process into the NATS server if it was started as one.
func natsMain() {
	place := os.Getenv(natsEnv)
	if place == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir, port, _ := strings.Cut(place, "|")
	n, err := strconv.Atoi(port)
	if err == nil {
		var server *devstack.NATS
		if server, err = devstack.StartNATS(dir, n); err == nil {
			<-ctx.Done()
			server.Stop()
			os.Exit(0) // nothing is left to stop
		}
	}
	fmt.Fprintln(os.Stderr, "nats:", err)
	os.Exit(1)
}

func (w *world) natsDir() string { return w.dir.Join("nats") }
func (w *world) natsURL() string { return "nats://127.0.0.1:" + strconv.Itoa(w.natsPort) }

// startProcesses makes the roles and starts a process for each.
func (w *world) startProcesses(ctx context.Context) error {
	w.processes = devstack.NewProcesses(w.log)
	w.onStop(func() error {
		for _, r := range w.roles {
			r.signal(syscall.SIGCONT)
		}
		w.processes.Stop(processEnd)
		return nil
	})
	for _, add := range []func(context.Context) error{w.addNATS, w.addDispatchers, w.addWorkers} {
		if err := add(ctx); err != nil {
			return err
		}
	}
	for _, r := range w.roles {
		if err := w.start(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) addNATS(ctx context.Context) error {
	address, err := freeAddress(ctx, "127.0.0.1")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(address)
	w.natsPort, _ = strconv.Atoi(port)
	w.roles = append(w.roles, &role{name: "nats", kind: "nats", index: -1, command: devstack.Command{
		Name: "nats", Env: []string{natsEnv + "=" + w.natsDir() + "|" + port},
	}})
	return nil
}

// common is the environment of dispatchers and workers alike.
func (w *world) common() []string {
	s3 := w.s3.Config()
	return []string{
		"MEDIAFERRY_STAGING_ENDPOINT=" + w.opts.staging,
		"MEDIAFERRY_STAGING_ACCESS_KEY=" + s3.AccessKey.Reveal(),
		"MEDIAFERRY_STAGING_SECRET_KEY=" + s3.SecretKey.Reveal(),
		"MEDIAFERRY_LOG_LEVEL=debug",
		"MEDIAFERRY_STOP_GRACE=" + stopGrace.String(),
	}
}

func (w *world) addDispatchers(ctx context.Context) error {
	seal := sealing.NewKey()
	w.secrets["seal_key"] = seal
	dsn := w.postgres.DSN()
	if _, rest, ok := strings.Cut(dsn, "mediaferry:"); ok {
		w.secrets["password of Postgres"], _, _ = strings.Cut(rest, "@")
	}
	path, env, err := w.writeAccounts()
	if err != nil {
		return err
	}
	env = append(env, w.common()...)
	env = append(env, "MEDIAFERRY_NATS_URL="+w.natsURL(), "MEDIAFERRY_POSTGRES_DSN="+dsn, "MEDIAFERRY_SEAL_KEY="+seal,
		"MEDIAFERRY_SWEEP_INTERVAL=1s", "MEDIAFERRY_API_AUTH="+config.AuthNone)
	for n := range w.opts.dispatchers {
		listen, err := freeAddress(ctx, quietHost)
		if err != nil {
			return err
		}
		metrics, err := freeAddress(ctx, quietHost)
		if err != nil {
			return err
		}
		w.apis = append(w.apis, "http://"+listen)
		name := "dispatcher-" + strconv.Itoa(n+1)
		w.roles = append(w.roles, &role{name: name, kind: "dispatcher", index: -1, metrics: metrics, command: devstack.Command{
			Name: name, Path: w.opts.dispatcher, Args: []string{"--config", path},
			Env: append(slices.Clone(env), "MEDIAFERRY_API_LISTEN="+listen, "MEDIAFERRY_METRICS_LISTEN="+metrics),
		}})
	}
	return nil
}

// writeAccounts writes the configuration of the accounts, and returns the
// environment that it takes their secrets from.
func (w *world) writeAccounts() (path string, env []string, err error) {
	var accounts []map[string]any
	for _, a := range w.accounts {
		refs := make(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(a.secrets)) {
			variable := strings.ToUpper("CHAOS_" + strings.ReplaceAll(a.name, "-", "_") + "_" + name)
			refs[name] = "env:" + variable
			env = append(env, variable+"="+a.secrets[name])
		}
		accounts = append(accounts, map[string]any{
			"name": a.name, "tenant": a.tenant, "provider": a.provider, "window": strconv.Itoa(window), "settings": a.settings, "secrets": refs,
			"allow_networks": []string{"127.0.0.0/8"}, // where the local platforms are
		})
	}
	raw, err := yaml.Marshal(map[string]any{"accounts": accounts})
	if err != nil {
		return "", nil, fmt.Errorf("write the accounts: %w", err)
	}
	path = w.dir.Join("dispatcher.yaml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return "", nil, fmt.Errorf("write the accounts: %w", err)
	}
	return path, env, nil
}

// addWorkers makes the workers, each with a wire of its own to NATS.
func (w *world) addWorkers(ctx context.Context) error {
	for n := range w.opts.workers {
		toNATS, err := newWire(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(w.natsPort)))
		if err != nil {
			return err
		}
		w.onStop(toNATS.close)
		metrics, err := freeAddress(ctx, quietHost)
		if err != nil {
			return err
		}
		name := "worker-" + strconv.Itoa(n+1)
		w.roles = append(w.roles, &role{name: name, kind: "worker", index: -1, wire: toNATS, metrics: metrics, command: devstack.Command{
			Name: name, Path: w.opts.worker, Env: append(w.common(), "MEDIAFERRY_ID="+name, "MEDIAFERRY_SLOTS="+strconv.Itoa(slots),
				"MEDIAFERRY_NATS_URL=nats://"+toNATS.address(), "MEDIAFERRY_METRICS_LISTEN="+metrics),
		}})
	}
	return nil
}

// start starts the process unless it runs.
func (w *world) start(ctx context.Context, r *role) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index >= 0 && w.processes.PIDs()[r.index] != 0 {
		return nil
	}
	index, err := w.processes.Start(ctx, r.command)
	if err != nil {
		return err
	}
	r.index, r.pid = index, w.processes.PIDs()[index]
	return nil
}

// kill ends the process as a crash would.
func (w *world) kill(r *role) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index < 0 {
		return nil
	}
	return w.processes.Kill(r.index)
}

// end asks the process to end and waits for it; late says that it had to be killed.
func (w *world) end(ctx context.Context, r *role) (late bool, err error) {
	r.signal(syscall.SIGTERM)
	deadline := time.After(processEnd)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for w.processes.PIDs()[r.index] != 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-deadline:
			return true, w.kill(r)
		}
	}
	return false, nil
}

func (r *role) signal(s syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid != 0 {
		_ = syscall.Kill(r.pid, s) // one that is gone needs no signal
	}
}

func (w *world) role(name string) *role {
	for _, r := range w.roles {
		if r.name == name {
			return r
		}
	}
	return nil
}

// kind returns all processes of the kind.
func (w *world) kind(kind string) (roles []*role) {
	for _, r := range w.roles {
		if r.kind == kind {
			roles = append(roles, r)
		}
	}
	return roles
}

// clients returns one client of each dispatcher for the tenant.
func (w *world) clients(tenant string) ([]*client.Client, error) {
	var all []*client.Client
	for _, api := range w.apis {
		c, err := client.New(api, tenant)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// awaitReady returns when every dispatcher takes submissions and has heard of
// every worker.
func (w *world) awaitReady(ctx context.Context) error {
	all, err := w.clients(tenants[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, c := range all {
		defer c.Close()
		for {
			workers, err := c.Workers(ctx)
			if err == nil && len(workers) >= w.opts.workers {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the processes are not ready: %w", errors.Join(context.Cause(ctx), err))
			case <-tick.C:
			}
		}
	}
	return nil
}

// put stores an object whose bytes follow from the salt and the key alone.
func (w *world) put(ctx context.Context, key, salt string, size int64) (s sums, err error) {
	seed := sha256.Sum256([]byte(salt + "\x00" + key))
	in256, in1 := sha256.New(), sha1.New() //nolint:gosec // one of the platforms names files by it
	source := io.TeeReader(io.LimitReader(mrand.NewChaCha8(seed), size), io.MultiWriter(in256, in1))
	_, err = w.objects.Put(ctx, bucket, key, "video/mp4", source, size)
	return sums{[sha256.Size]byte(in256.Sum(nil)), hex.EncodeToString(in1.Sum(nil))}, err
}

// sums are the digests of an object.
type sums struct {
	sha256 [sha256.Size]byte
	sha1   string
}

// No connection goes out from quietHost, so nobody takes a port there while its
// process is down.
const quietHost = "127.0.0.2"

// freeAddress returns a loopback address that nobody listens on now.
func freeAddress(ctx context.Context, host string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	return l.Addr().String(), nil
}
