package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATS is a NATS server with JetStream in this process.
type NATS struct {
	// MaxStore bounds what the streams may hold on disk, in bytes, from the next
	// Start on; 0 leaves it to the disk.
	MaxStore int64

	dir    string
	port   int
	server *server.Server // nil while stopped

	command []string // of a server in place of ours
	child   *child   // that runs it, nil while stopped
	stdin   io.WriteCloser
}

// NATSConfig goes to a server that is not ours, as JSON on its standard input:
// it serves as that says, asks for no credentials, and ends when its standard
// input does.
type NATSConfig struct {
	Root     string // folder for the streams
	Address  string // host:port to listen on
	MaxStore int64  `json:",omitempty"` // bytes, 0 for no bound
}

// StartNATS starts a server that keeps its streams in dir. Port 0 takes a free
// one; it stays the same through Stop and Start.
func StartNATS(dir string, port int) (*NATS, error) {
	n := &NATS{dir: dir, port: port}
	if err := n.Start(); err != nil {
		return nil, err
	}
	return n, nil
}

// StartNATSCommand is StartNATS for a server that another program runs, on a free
// port.
func StartNATSCommand(dir string, command []string) (*NATS, error) {
	port, err := freePort(context.Background())
	if err != nil {
		return nil, err
	}
	n := &NATS{dir: dir, port: port, command: command}
	if err := n.Start(); err != nil {
		return nil, err
	}
	return n, nil
}

const (
	natsReady    = time.Minute
	commandReady = time.Minute // a container is among what it may start
)

// Start starts the server again after Stop, with the streams that it had.
func (n *NATS) Start() error {
	if n.server != nil || n.child != nil {
		return errors.New("start NATS: it runs already")
	}
	if n.command != nil {
		if err := n.launch(); err != nil {
			return fmt.Errorf("start NATS: %w", err)
		}
		return nil
	}
	opts := &server.Options{
		Host:      "127.0.0.1",
		Port:      n.port,
		JetStream: true,
		StoreDir:  n.dir,
		NoSigs:    true,

		JetStreamMaxStore: n.MaxStore,
		NoLog:             true,
	}
	if n.port == 0 {
		opts.Port = server.RANDOM_PORT
	} else if err := n.portIsFree(); err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(natsReady) {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("start NATS: not ready on port %d after %s", opts.Port, natsReady)
	}
	addr, ok := srv.Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("start NATS: not a TCP address")
	}
	n.server, n.port = srv, addr.Port
	return nil
}

// portIsFree returns why the server cannot listen on its port, which it would not
// say itself.
func (n *NATS) portIsFree() error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", n.address())
	if err != nil {
		return fmt.Errorf("try its port: %w", err)
	}
	if err := listener.Close(); err != nil {
		return fmt.Errorf("try its port: %w", err)
	}
	return nil
}

// launch starts the program that runs the server, and waits until it greets.
func (n *NATS) launch() error {
	ctx, cancel := context.WithTimeout(context.Background(), commandReady)
	defer cancel()
	text, err := json.Marshal(NATSConfig{Root: n.dir, Address: n.address(), MaxStore: n.MaxStore})
	if err != nil {
		return fmt.Errorf("encode its config: %w", err)
	}
	output := &tail{}
	// It lives until Stop.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), n.command[0], n.command[1:]...) //nolint:gosec // the caller's choice
	cmd.Stdout, cmd.Stderr = output, output
	if n.stdin, err = cmd.StdinPipe(); err != nil {
		return fmt.Errorf("open its input: %w", err)
	}
	if n.child, err = startChild(cmd, syscall.SIGTERM, nil); err != nil {
		return err
	}
	if _, err := n.stdin.Write(text); err != nil {
		n.Stop()
		return fmt.Errorf("send its config: %w", err)
	}
	if err := n.child.await(ctx, "the NATS server", output, n.greets); err != nil {
		n.Stop()
		return err
	}
	return nil
}

// greets asks for the first line: a port may be open before its server is there.
func (n *NATS) greets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.address())
	if err != nil {
		return fmt.Errorf("ask for a sign of life: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // no connection refuses one
	}
	greeting := make([]byte, len("INFO "))
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return fmt.Errorf("ask for a sign of life: %w", err)
	}
	return nil
}

func (n *NATS) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

// URL returns where clients connect to.
func (n *NATS) URL() string { return "nats://" + n.address() }

// Stop ends the server and returns when it is gone; the streams stay on disk.
// It may be repeated.
func (n *NATS) Stop() {
	if n.child != nil {
		_ = n.stdin.Close()
		n.child.stop(syscall.SIGTERM, commandGrace)
		n.child = nil
		return
	}
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.server = nil
}

// Wipe deletes every stream, as the loss of the disk would. The server must be stopped.
func (n *NATS) Wipe() error {
	if n.server != nil || n.child != nil {
		return errors.New("wipe NATS: stop it first")
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("wipe NATS: %w", err)
	}
	return nil
}
