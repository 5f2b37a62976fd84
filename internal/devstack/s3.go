package devstack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"mediaferry/internal/providers"
	"mediaferry/internal/staging"
)

// childEnv names the role of a process that is to be a server of this package.
const childEnv = "MEDIAFERRY_DEVSTACK_CHILD"

// ChildMain turns this process into the S3 server if devstack started it as
// one, and never returns then. It must be the first thing in main (and in
// TestMain, where devtest.Main does it).
func ChildMain() {
	if os.Getenv(childEnv) != "s3" {
		return
	}
	err := serveS3(os.Stdin)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// S3Options say what a server is to have. The zero value is fine.
type S3Options struct {
	Port      int              // 0 takes a free one
	AccessKey string           // "mediaferry" if empty
	SecretKey providers.Secret // made up if empty
	Buckets   []string         // made if they are missing
	NATSURL   string           // where it publishes its events; empty for nowhere
	Subject   string           // under which
	Output    io.Writer        // gets what the server says; nil drops it
	// Command runs another server in place of ours. It reads an S3Config as JSON
	// on its standard input, serves S3 as that says, and ends when its standard
	// input does.
	Command []string
}

// S3 is an S3 server over a folder. It is a child process, since its library
// changes the working directory and allows one server in a process.
type S3 struct {
	dir   string
	opts  S3Options
	child *child         // nil while stopped
	stdin io.WriteCloser // the child ends with it
}

// S3Config goes to the child on its standard input: secrets do not belong on
// a command line or in the environment.
type S3Config struct {
	Root       string // folder for the objects
	Sidecar    string `json:",omitempty"` // folder for what is said of them; "" where Root takes attributes
	Address    string // host:port to listen on
	AccessKey  string
	SecretKey  string
	HealthPath string // of our own server
	NATSURL    string `json:",omitempty"` // where events are published; "" for nowhere
	Subject    string `json:",omitempty"` // under which
}

// StartS3 starts a server that keeps its objects in dir and returns when the
// buckets are there. It stays on the same port, with the same keys, through
// Stop and Start.
func StartS3(ctx context.Context, dir string, opts S3Options) (*S3, error) {
	if opts.AccessKey == "" {
		opts.AccessKey = "mediaferry"
	}
	if opts.SecretKey == "" {
		opts.SecretKey = providers.Secret(rand.Text())
	}
	s := &S3{dir: dir, opts: opts}
	if err := onPort(ctx, &s.opts.Port, s.Start); err != nil {
		return nil, err
	}
	return s, nil
}

// Start starts the server again after Stop, over the same objects.
func (s *S3) Start(ctx context.Context) error {
	if s.child != nil {
		return errors.New("start S3: it runs already")
	}
	config := S3Config{
		Root:      filepath.Join(s.dir, "objects"),
		Address:   s.address(),
		AccessKey: s.opts.AccessKey,
		SecretKey: s.opts.SecretKey.Reveal(),
		NATSURL:   s.opts.NATSURL,
		Subject:   s.opts.Subject,
		// Answers only come from this very child, whoever else got the port.
		HealthPath: "/alive-" + strings.ToLower(rand.Text()),
	}
	if err := os.MkdirAll(config.Root, 0o700); err != nil {
		return fmt.Errorf("start S3: %w", err)
	}
	if (meta.XattrMeta{}).Test(config.Root) != nil {
		// The file system has no user attributes: metadata goes beside the objects.
		config.Sidecar = filepath.Join(s.dir, "metadata")
		if err := os.MkdirAll(config.Sidecar, 0o700); err != nil {
			return fmt.Errorf("start S3: %w", err)
		}
	}
	if err := s.launch(ctx, config); err != nil {
		return fmt.Errorf("start S3: %w", err)
	}
	if err := s.makeBuckets(ctx); err != nil {
		s.Stop()
		return fmt.Errorf("start S3: %w", err)
	}
	return nil
}

// launch starts the child, hands it its config, and waits for its first answer.
func (s *S3) launch(ctx context.Context, config S3Config) error {
	command := s.opts.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find our own binary: %w", err)
		}
		command = []string{self}
	}
	text, err := json.Marshal(config) //nolint:gosec // the child needs the secret, and nobody else sees the pipe
	if err != nil {
		return fmt.Errorf("encode its config: %w", err)
	}
	output := &tail{w: s.opts.Output}
	// The child lives until Stop, not until ctx ends.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...) //nolint:gosec // our own binary, or the caller's choice
	cmd.Env = append(os.Environ(), childEnv+"=s3")
	cmd.Dir = config.Root
	cmd.Stdout, cmd.Stderr = output, output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("open its input: %w", err)
	}
	endWith := syscall.SIGKILL
	if len(s.opts.Command) > 0 {
		endWith = syscall.SIGTERM // it may have something to clear away
	}
	c, err := startChild(cmd, endWith, nil)
	if err != nil {
		return err
	}
	s.child, s.stdin = c, stdin
	if _, err := stdin.Write(text); err != nil {
		s.Stop()
		return fmt.Errorf("send its config: %w", err)
	}
	err = c.await(ctx, "the S3 server", output, func(ctx context.Context) error {
		return s.alive(ctx, config.HealthPath)
	})
	if err != nil {
		s.Stop()
		return err
	}
	return nil
}

func (s *S3) alive(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if len(s.opts.Command) > 0 {
		store, err := staging.New(s.Config())
		if err != nil {
			return fmt.Errorf("ask for a sign of life: %w", err)
		}
		defer store.Close()
		return store.Check(ctx)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint()+path, nil)
	if err != nil {
		return fmt.Errorf("ask for a sign of life: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask for a sign of life: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask for a sign of life: status %d", resp.StatusCode)
	}
	return nil
}

func (s *S3) makeBuckets(ctx context.Context) error {
	store, err := staging.New(s.Config())
	if err != nil {
		return fmt.Errorf("make buckets: %w", err)
	}
	defer store.Close()
	for _, bucket := range s.opts.Buckets {
		if err := store.MakeBucket(ctx, bucket); err != nil {
			return fmt.Errorf("make buckets: %w", err)
		}
	}
	return nil
}

func (s *S3) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.opts.Port)) }

// Endpoint returns the URL of the server.
func (s *S3) Endpoint() string { return "http://" + s.address() }

// Config returns what a client needs.
func (s *S3) Config() staging.Config {
	return staging.Config{
		Endpoint:  s.Endpoint(),
		AccessKey: providers.Secret(s.opts.AccessKey),
		SecretKey: s.opts.SecretKey,
		PathStyle: true,
	}
}

// Stop ends the server at once: what it has answered is stored, a request in
// hand is cut off. It may be repeated.
func (s *S3) Stop() {
	if s.child == nil {
		return
	}
	if len(s.opts.Command) == 0 {
		s.child.kill()
		_ = s.stdin.Close()
	} else {
		_ = s.stdin.Close()
		s.child.stop(syscall.SIGTERM, commandGrace)
	}
	s.child = nil
}

// Limits of the server, which it does not set by itself.
const (
	s3Connections = 4096
	s3Parts       = 10_000
	s3Concurrency = 512
)

// serveS3 is the child: it serves until its standard input ends, which it
// does when the parent is gone.
func serveS3(stdin io.Reader) error {
	decoder := json.NewDecoder(stdin)
	var config S3Config
	if err := decoder.Decode(&config); err != nil {
		return fmt.Errorf("read the config of the S3 server: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		os.Exit(0)
	}()
	var metadata meta.MetadataStorer = meta.XattrMeta{}
	if config.Sidecar != "" {
		sidecar, err := meta.NewSideCar(config.Sidecar)
		if err != nil {
			return fmt.Errorf("open the metadata folder: %w", err)
		}
		metadata = sidecar
	}
	backend, err := posix.New(config.Root, metadata, posix.PosixOpts{
		SideCarDir:  config.Sidecar,
		Concurrency: s3Concurrency,
	})
	if err != nil {
		return fmt.Errorf("open the objects folder: %w", err)
	}
	err = embedgw.RunVersityGW(context.Background(), backend, &embedgw.Config{
		RootUserAccess:    config.AccessKey,
		RootUserSecret:    config.SecretKey,
		Ports:             []string{config.Address},
		MaxConnections:    s3Connections,
		MaxRequests:       s3Connections,
		MultipartMaxParts: s3Parts,
		KeepAlive:         true,
		HealthPath:        config.HealthPath,
		NatsURL:           config.NATSURL,
		NatsTopic:         config.Subject,
		Quiet:             true,
	})
	return fmt.Errorf("the S3 server ended: %w", err)
}
