// Package service builds the two processes out of their parts: it is the one
// place, beside the commands, where adapters meet use cases. The dispatcher
// and worker binaries, `mediaferry dev`, the end-to-end tests and the
// benchmarks all run what is built here.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mediaferry/internal/backoff"
	"mediaferry/internal/config"
	"mediaferry/internal/jobs"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/all"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/reach"
	"mediaferry/internal/staging"
)

// TuneMemory trades memory for CPU: the processes live in some ten megabytes,
// which the default would collect a dozen times a second under load. slots are
// those of a worker, whose memory is bounded by them; 0 sets no bound. GOGC and
// GOMEMLIMIT in the environment are left to have their way.
func TuneMemory(getenv func(string) string, slots int) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if getenv("GOMEMLIMIT") == "" && slots > 0 {
		// A slot holds at most 4 MiB; the garbage shares what is left.
		debug.SetMemoryLimit(40<<20 + int64(slots)*(4<<20))
	}
}

// StopSignals are those on which a process stops by itself. Settings are read at the
// start alone, so SIGHUP, by which others read theirs again, is one of them, unless
// whoever started the process had it ignored, as nohup does.
func StopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// Providers returns the providers that are built in, over one pool of
// connections to the platforms.
func Providers() map[string]providers.Provider {
	return all.New(&http.Client{
		Transport: guardedTransport(),
		// A redirect could carry a signed request to a host that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

// guardedTransport is a pool of connections that go as far as the reach of each
// request allows.
func guardedTransport() *reach.Guard {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 256
	transport.ResponseHeaderTimeout = 0 // platforms assemble while the caller waits; contexts bound it
	transport.WriteBufferSize = 64 << 10
	transport.MaxResponseHeaderBytes = 256 << 10 // each slot of a worker may meet one
	transport.ForceAttemptHTTP2 = false
	transport.DialContext = lent.Dial((&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext)
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	return reach.NewGuard(transport)
}

// NewLogger returns the logger that the configuration asks for, on standard error.
func NewLogger(cfg config.Log) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "at", zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if cfg.Format == "console" {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), level)), nil
}

// Why a process is not ready although it can reach what it needs, or before it can.
var (
	errStarting = errors.New("the process is starting")
	errStopping = errors.New("the process is stopping")
)

// reachOf is where the account's platform may send us: to what its settings
// name, and to the networks that it allows.
func reachOf(a config.Account) reach.Reach {
	var r reach.Reach
	for _, name := range slices.Sorted(maps.Keys(a.Settings)) {
		value := a.Settings[name]
		if name == "endpoint" && !strings.Contains(value, "://") {
			value = "https://" + value // as s3 reads it
		}
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			continue
		}
		r.Hosts = append(r.Hosts, reach.HostPort(u))
		if bucket := a.Settings["bucket"]; bucket != "" { // the other style of S3's addresses
			r.Hosts = append(r.Hosts, strings.ToLower(bucket)+"."+reach.HostPort(u))
		}
	}
	for _, network := range a.AllowNetworks {
		if p, err := netip.ParsePrefix(network); err == nil { // loading checked it
			r.Networks = append(r.Networks, p.Masked())
		}
	}
	return r
}

// connect names the connection after the process, and its inbox after the role.
// replicas are those of streams, for who makes them.
func connect(ctx context.Context, cfg config.NATS, name, role string, replicas int, log *zap.Logger) (*jobs.Conn, error) {
	return jobs.Connect(ctx, jobs.Config{
		URL: cfg.URL, Name: name, Inbox: role, User: cfg.User, Password: cfg.Password, Token: cfg.Token, CredsFile: cfg.CredsFile,
		NKeyFile: cfg.NKeyFile, CAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
		Replicas: replicas,
	}, log)
}

// closeConn flushes what is pending, also when ctx has ended.
func closeConn(ctx context.Context, conn *jobs.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return conn.Close(ctx)
}

func openStaging(cfg config.Staging) (*staging.Store, error) {
	return staging.New(staging.Config{
		Endpoint: cfg.Endpoint, Region: cfg.Region, PathStyle: cfg.PathStyle,
		AccessKey: providers.Secret(cfg.AccessKey), SecretKey: cfg.SecretKey, CAFile: cfg.CAFile,
	})
}

// reachStaging opens staging and returns when it answers. Refused credentials
// are an error at once.
func reachStaging(ctx context.Context, cfg config.Staging, log *zap.Logger) (*staging.Store, error) {
	store, err := openStaging(cfg)
	if err != nil {
		return nil, err
	}
	if err := awaitStaging(ctx, store, cfg.Endpoint, log); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

// awaitStaging waits until staging answers, with a line for each try.
func awaitStaging(ctx context.Context, store *staging.Store, endpoint string, log *zap.Logger) error {
	for tries := 1; ; tries++ {
		err := store.Check(ctx)
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[*staging.Error](err); ok && e.SourceKind() == parts.SourceDenied {
			return fmt.Errorf("staging at %s refuses staging.access_key and staging.secret_key: %w", endpoint, err)
		}
		wait := backoff.Delay(tries, 400*time.Millisecond, 5*time.Second)
		log.Warn("waiting for staging at "+endpoint, zap.Error(err), zap.Duration("next_try", wait))
		if !backoff.Pause(ctx, wait) {
			return fmt.Errorf("wait for staging at %s: %w", endpoint, context.Cause(ctx))
		}
	}
}

// AccountRules is what the configuration is to check accounts by.
func AccountRules(known map[string]providers.Provider) config.AccountRules {
	return config.AccountRules{
		Providers: slices.Sorted(maps.Keys(known)),
		Check: func(provider string, a providers.Account) error {
			if c, ok := known[provider].(providers.AccountChecker); ok {
				return c.CheckAccount(a)
			}
			return nil
		},
		CheckMedia: func(provider string, m providers.Media) error {
			if c, ok := known[provider].(providers.MediaChecker); ok {
				return c.CheckMedia(m)
			}
			return nil
		},
	}
}
