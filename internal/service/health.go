package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	healthHeader = 5 * time.Second // for a request to be read
	healthAnswer = 2 * time.Second // for what the answer depends on
)

// serveHealth answers /livez, /readyz and /startupz at the address, if there is
// one, until stop is called, which is last: a process that is stopping is alive,
// and not ready.
// ready says what is not in order, nil for nothing, errStarting until it has
// been once.
func serveHealth(ctx context.Context, address string, log *zap.Logger, ready func(context.Context) error) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("health.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthAnswer)
		defer cancel()
		if errors.Is(ready(ctx), errStarting) {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthAnswer)
		defer cancel()
		if err := ready(ctx); err != nil {
			log.Warn("not ready", zap.Error(err))
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return serveAside(listener, mux, log), nil
}

// serveAside serves what operators ask of a process at the listener, until stop
// is called. An end before that is logged: the process goes on without.
func serveAside(listener net.Listener, handler http.Handler, log *zap.Logger) (stop func()) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: healthHeader, ErrorLog: zap.NewStdLog(log)}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("not served any more", zap.Error(err))
		}
	})
	log.Info("served", zap.Stringer("address", listener.Addr()))
	return func() {
		_ = server.Close() // nobody waits for an answer by now
		serving.Wait()
	}
}
