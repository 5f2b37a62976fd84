// Command containers runs mediaferry's tests on servers in containers: a Postgres
// that they share, and an S3 and a NATS server for each test that asks for one.
// `make test-containers` uses it.
//
//	containers run GO-TEST-ARGUMENTS…   in the root of the repository
//	containers s3 | nats                for package devstack, see S3Options.Command
//
// The images are those of deploy/images.sh, or what POSTGRES_IMAGE, NATS_IMAGE and
// S3_IMAGE name.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	startPatience = 2 * time.Minute
	stopPatience  = 30 * time.Second
)

func main() {
	log.SetFlags(0)
	// Containers are removed by whoever started them, and no image of a reaper can
	// be fetched where there is no registry.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	setDefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal("containers: ", err)
	}
}

func setDefault(name, value string) {
	if os.Getenv(name) == "" {
		_ = os.Setenv(name, value) // the name is a good one
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) > 1 && args[0] == "run":
		return runTests(ctx, args[1:])
	case len(args) == 1 && args[0] == "s3":
		return serve(ctx, s3Request)
	case len(args) == 1 && args[0] == "nats":
		return serve(ctx, natsRequest)
	}
	return errors.New("give run with arguments of go test, s3 or nats")
}

// server is what devstack.S3Config and devstack.NATSConfig have in common, and
// what each has of its own.
type server struct {
	Root      string
	Address   string
	AccessKey string
	SecretKey string
	MaxStore  int64
}

// serve runs a server in a container as standard input says, until that ends.
func serve(ctx context.Context, request func(server) (testcontainers.ContainerRequest, error)) error {
	decoder := json.NewDecoder(os.Stdin)
	var s server
	if err := decoder.Decode(&s); err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // what matters is that it ends
	}()
	r, err := request(s)
	if err != nil {
		return err
	}
	c, err := start(ctx, r)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return remove(c)
}

// start returns a container that runs; nothing is left of one that does not.
func start(ctx context.Context, r testcontainers.ContainerRequest) (testcontainers.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: r, Started: true, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		if c != nil {
			err = errors.Join(err, remove(c))
		}
		return nil, fmt.Errorf("start %s: %w", r.Image, err)
	}
	return c, nil
}

func remove(c testcontainers.Container) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if err := c.Terminate(ctx, testcontainers.StopTimeout(0)); err != nil {
		return fmt.Errorf("remove a container: %w", err)
	}
	return nil
}

// at publishes a port of the container at the address, and keeps what is in
// root on this side, for the next container.
func at(address, port, root, path string) (func(*container.HostConfig), error) {
	host, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("read the address: %w", err)
	}
	inside, err := network.ParsePort(port)
	if err != nil {
		return nil, fmt.Errorf("read the port: %w", err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	return func(h *container.HostConfig) {
		h.Binds = []string{root + ":" + path}
		h.PortBindings = network.PortMap{inside: {{HostIP: host.Addr(), HostPort: fmt.Sprint(host.Port())}}}
	}, nil
}

// ourselves owns what the container writes, so that tests can clear it away.
func ourselves(c *container.Config) { c.User = fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) }

func s3Request(s server) (testcontainers.ContainerRequest, error) {
	const port = "7070/tcp"
	modify, err := at(s.Address, port, s.Root, "/objects")
	return testcontainers.ContainerRequest{
		Image:        cmp.Or(os.Getenv("S3_IMAGE"), "mediaferry-s3:local"),
		Cmd:          []string{"posix", "/objects"},
		ExposedPorts: []string{port},
		Env: map[string]string{
			"ROOT_ACCESS_KEY": s.AccessKey, "ROOT_SECRET_KEY": s.SecretKey,
			"VGW_PORT": ":7070", "VGW_KEEP_ALIVE": "true", "VGW_QUIET": "true",
		},
		HostConfigModifier: modify, ConfigModifier: ourselves,
	}, err
}

func natsRequest(s server) (testcontainers.ContainerRequest, error) {
	const port = "4222/tcp"
	modify, err := at(s.Address, port, s.Root, "/data")
	if err != nil {
		return testcontainers.ContainerRequest{}, err
	}
	config := "jetstream { store_dir: /data }\n"
	if s.MaxStore > 0 {
		config = fmt.Sprintf("jetstream { store_dir: /data, max_file_store: %d }\n", s.MaxStore)
	}
	if err := os.WriteFile(filepath.Join(s.Root, "nats.conf"), []byte(config), 0o600); err != nil {
		return testcontainers.ContainerRequest{}, fmt.Errorf("write the settings: %w", err)
	}
	return testcontainers.ContainerRequest{
		Image:              cmp.Or(os.Getenv("NATS_IMAGE"), "mediaferry-nats:local"),
		Cmd:                []string{"-c", "/data/nats.conf"},
		ExposedPorts:       []string{port},
		HostConfigModifier: modify, ConfigModifier: ourselves,
	}, nil
}

// runTests runs go test beside a Postgres, and tells the tests where all is.
func runTests(ctx context.Context, args []string) (err error) {
	const port = "5432/tcp"
	password := rand.Text()
	postgres, err := start(ctx, testcontainers.ContainerRequest{
		Image:        cmp.Or(os.Getenv("POSTGRES_IMAGE"), "mediaferry-postgres:local"),
		ExposedPorts: []string{port},
		Env:          map[string]string{"POSTGRES_USER": "mediaferry", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "mediaferry"},
		// In memory: it is gone with the container in any case.
		HostConfigModifier: func(h *container.HostConfig) { h.Tmpfs = map[string]string{"/var/lib/postgresql/data": ""} },
		Cmd:                []string{"-c", "max_connections=300", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"},
		WaitingFor:         wait.ForListeningPort(port),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(postgres)) }()
	mapped, err := postgres.MappedPort(ctx, port)
	if err != nil {
		return fmt.Errorf("ask for Postgres's port: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	// It is asked to end, and has some time to: its children have containers.
	cmd := exec.CommandContext(ctx, "go", append([]string{"test"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopPatience
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("MEDIAFERRY_TEST_POSTGRES_DSN=postgres://mediaferry:%s@%s/mediaferry?sslmode=disable",
			password, net.JoinHostPort("127.0.0.1", mapped.Port())),
		"MEDIAFERRY_TEST_S3="+self+" s3", "MEDIAFERRY_TEST_NATS="+self+" nats")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go test %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
