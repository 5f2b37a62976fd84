package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// wire carries what one worker and NATS tell each other. While it is held the
// bytes wait on their way, either way, as they do while packets are lost; none
// is dropped.
type wire struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	pass  chan struct{} // closed while bytes pass
	conns map[net.Conn]struct{}
	ended bool
}

func newWire(ctx context.Context, target string) (*wire, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wire to %s: %w", target, err)
	}
	w := &wire{target: target, listener: l, pass: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(w.pass)
	w.running.Go(w.accept)
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

// hold keeps everything from now on until release.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.pass:
		w.pass = make(chan struct{})
	default: // held already
	}
}

func (w *wire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.pass:
	default:
		close(w.pass)
	}
}

func (w *wire) passing() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pass
}

func (w *wire) close() error {
	err := w.listener.Close()
	w.release()
	w.mu.Lock()
	w.ended = true
	for c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err //nolint:wrapcheck // of our own listener
}

// keep notes a connection to be closed with the wire; false if that is closed.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		_ = c.Close()
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := (&net.Dialer{}).Dial("tcp", w.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !w.keep(near) || !w.keep(far) {
			continue
		}
		w.running.Go(func() { w.carry(near, far) })
		w.running.Go(func() { w.carry(far, near) })
	}
}

// carry reads at once, so that what was said is not lost with a side that gives
// up, and writes when bytes may pass.
func (w *wire) carry(from, to net.Conn) {
	said := make(chan []byte, 1<<14)
	w.running.Go(func() {
		defer close(said)
		for {
			p := make([]byte, 16*kib)
			n, err := from.Read(p)
			if n > 0 {
				said <- p[:n]
			}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for p := range said {
		<-w.passing()
		if !broken {
			_, err := to.Write(p)
			broken = err != nil
		}
	}
	<-w.passing()
	_ = to.Close()
	_ = from.Close()
	w.mu.Lock()
	delete(w.conns, from)
	delete(w.conns, to)
	w.mu.Unlock()
}
