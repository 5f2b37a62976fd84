package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"mediaferry/internal/config"
	"mediaferry/internal/uploads"
)

// askPatience is more than a process takes to say that it is not ready.
const askPatience = 2*healthAnswer + time.Second

// AskDispatcher asks the dispatcher that runs on this machine with these
// settings whether it is ready; nil if it is. It is the health check of images
// that hold no other program.
func AskDispatcher(ctx context.Context, cfg config.Dispatcher) error {
	return askReady(ctx, cfg.API.Listen, cfg.API.CertFile != "")
}

// AskWorker is AskDispatcher for a worker, which must have health.listen.
func AskWorker(ctx context.Context, cfg config.Worker) error {
	if cfg.Health.Listen == "" {
		return &uploads.FieldError{Field: "health.listen", Detail: "is empty, so the worker cannot be asked; give one such as 127.0.0.1:8081"}
	}
	return askReady(ctx, cfg.Health.Listen, false)
}

// askReady asks /readyz at an address that a process here listens on.
func askReady(ctx context.Context, listen string, https bool) error {
	address, err := dialable(listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	scheme := "http"
	transport := &http.Transport{DisableKeepAlives: true}
	if https {
		scheme = "https"
		// The certificate names the service, not this address, and nothing that
		// is secret is sent or believed.
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // see above
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		const enough = 200
		text, _ := io.ReadAll(io.LimitReader(resp.Body, enough)) // the status says it already
		return fmt.Errorf("%s answers %s: %s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// dialable is where to reach who listens on an address of every interface.
func dialable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("read the address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}
