package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/config"
)

// listenAPI opens the API's address, for HTTPS where a certificate is given.
func listenAPI(ctx context.Context, cfg config.API, log *zap.Logger) (net.Listener, error) {
	certs := &certificate{certFile: cfg.CertFile, keyFile: cfg.KeyFile, log: log}
	if cfg.CertFile != "" {
		if err := certs.load(); err != nil {
			return nil, fmt.Errorf("api.cert_file and api.key_file: %w", err)
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("api.listen: %w", err)
	}
	if cfg.CertFile == "" {
		return listener, nil
	}
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.get}), nil
}

// certificateAge is how long a certificate is used before its files are looked at again.
const certificateAge = time.Second

// certificate is read again when its files change. Files that cannot be used
// leave the one before in force: they may be half written.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]fileState // that the last try was made with
	checked time.Time
}

// fileState tells one content of a file from the next.
type fileState struct {
	changed time.Time
	size    int64
}

// get is asked at each handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < certificateAge {
		return c.current, nil
	}
	c.checked = time.Now()
	if c.states() != c.seen {
		if err := c.loadLocked(); err != nil {
			c.log.Warn("the certificate of the API has changed and cannot be used; the one before stays", zap.Error(err))
		} else {
			c.log.Info("the certificate of the API was read again")
		}
	}
	return c.current, nil
}

func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadLocked()
}

func (c *certificate) loadLocked() error {
	c.seen = c.states()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err //nolint:wrapcheck // callers say what it is about
	}
	c.current = &pair
	return nil
}

// states looks at both files; one that is missing has the zero state.
func (c *certificate) states() (s [2]fileState) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileState{changed: info.ModTime(), size: info.Size()}
		}
	}
	return s
}
