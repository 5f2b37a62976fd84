package devstack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
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

const natsReady = 10 * time.Second

// Start starts the server again after Stop, with the streams that it had.
func (n *NATS) Start() error {
	if n.server != nil {
		return errors.New("start NATS: it runs already")
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
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(natsReady) {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("start NATS: not ready on port %d after %s; is the port in use?", opts.Port, natsReady)
	}
	addr, ok := srv.Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("start NATS: not a TCP address")
	}
	n.server, n.port = srv, addr.Port
	return nil
}

// URL returns where clients connect to.
func (n *NATS) URL() string {
	return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port))
}

// Stop ends the server and returns when it is gone; the streams stay on disk.
// It may be repeated.
func (n *NATS) Stop() {
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.server = nil
}

// Wipe deletes every stream, as the loss of the disk would. The server must be stopped.
func (n *NATS) Wipe() error {
	if n.server != nil {
		return errors.New("wipe NATS: stop it first")
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("wipe NATS: %w", err)
	}
	return nil
}
