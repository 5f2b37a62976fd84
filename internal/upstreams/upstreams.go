// Package upstreams holds local servers that stand in for video platforms: they
// check every signature, digest and offset, keep what they receive, and
// misbehave on request. They are for demonstrations and tests; nothing here is
// built to face a network.
//
// Besides its protocol, every server answers these addresses:
//
//	GET    /_local/calls   the calls so far, oldest first
//	GET    /_local/files   what was received, by file
//	POST   /_local/faults  adds a Fault or a list of them
//	DELETE /_local/faults  withdraws all faults
package upstreams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a handler on a listening socket.
type Server struct {
	URL    string // such as http://127.0.0.1:41234
	server *http.Server
	done   chan error
}

// Serve listens on address and serves the handler until Close. An empty address
// is a free port of 127.0.0.1.
func Serve(ctx context.Context, address string, handler http.Handler) (*Server, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	s := &Server{
		URL:    "http://" + listener.Addr().String(),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan error, 1),
	}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

// CloseIdle closes the connections that are not in a call.
func (s *Server) CloseIdle() {
	s.server.SetKeepAlivesEnabled(false)
	s.server.SetKeepAlivesEnabled(true)
}

// Close stops listening, breaks off the calls in hand and waits for the server
// to end.
func (s *Server) Close() error {
	if err := s.server.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.URL, err)
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.URL, err)
	}
	return nil
}

// maxCalls bounds the log. Older calls are dropped; the totals by file stay.
const maxCalls = 100_000

// Call is one call as the server saw it.
type Call struct {
	At       time.Time `json:"at"`
	Action   string    `json:"action"`
	Method   string    `json:"method"`
	Account  string    `json:"account,omitempty"`
	File     string    `json:"file,omitempty"`   // SHA-1, or key of an object
	Offset   int64     `json:"offset,omitempty"` // bytes
	Part     int       `json:"part,omitempty"`   // number, where the protocol has one
	Received int64     `json:"received"`         // bytes of body read
	Outcome  string    `json:"outcome"`          // "ok", a code, or what the fault did
}

// callLog is the calls so far. It is safe for use by many goroutines.
type callLog struct {
	mu    sync.Mutex
	calls []Call
}

func (l *callLog) add(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) >= maxCalls {
		l.calls = append(l.calls[:0], l.calls[maxCalls/2:]...)
	}
	l.calls = append(l.calls, c)
}

func (l *callLog) all() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Call{}, l.calls...)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The client may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
