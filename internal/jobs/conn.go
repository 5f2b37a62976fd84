package jobs

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Config says where NATS is and how to speak to it.
type Config struct {
	// URL is one server or several with commas between them, such as
	// nats://nats-1:4222,nats://nats-2:4222.
	URL string
	// Name is shown by the server's monitoring: the binary and the host.
	Name string
	// Inbox is the token below _INBOX that answers to us come under, so that a
	// server may keep others from listening; "" for none.
	Inbox string
	// User with Password, or Token, or a creds file; all empty for none.
	User      string
	Password  providers.Secret
	Token     providers.Secret
	CredsFile string
	NKeyFile  string // path of an nkey's seed, in place of the others
	// CAFile is who signs the server's certificate, in place of the system's
	// authorities; CertFile and KeyFile are our own. All in PEM, paths.
	CAFile, CertFile, KeyFile string
	// Replicas is how many servers of a cluster are to keep each stream, at least; 0
	// means 1. Those who make streams say so.
	Replicas int
	// AckWait is how long a job may be without a sign of life before another
	// worker gets it; 0 means 10 seconds.
	AckWait time.Duration
	// RequestTimeout bounds one request to the server or to a dispatcher; 0
	// means 5 seconds.
	RequestTimeout time.Duration
}

const (
	defaultAckWait        = 10 * time.Second
	defaultRequestTimeout = 5 * time.Second

	dialTimeout = 2 * time.Second
	// Lost links of idle connections are noticed within pingEvery × maxPingsOut.
	pingEvery   = 10 * time.Second
	maxPingsOut = 3

	// resubscribeAfter is how long a subscription that the server refused, or took
	// back, is left before the connection is made anew to ask for it again.
	resubscribeAfter = 10 * time.Second

	minDelay = 50 * time.Millisecond
	maxDelay = 5 * time.Second

	// Bounds of publishes that the server has not confirmed yet.
	maxUnconfirmed = 4096
	confirmTimeout = 10 * time.Second
)

// Conn is a connection to NATS that comes back by itself. It is safe for
// concurrent use.
type Conn struct {
	cfg Config
	id  string // tells this connection's words from others'
	nc  *nats.Conn
	js  jetstream.JetStream
	log *zap.Logger

	reports condition // whether reports reach the stream
	asks    asks
	closed  chan struct{}

	mu sync.Mutex
	// link ends when the connection has been re-established: whoever asked
	// something of the old one asks again. It is a broadcast, not the context of
	// a request, and is replaced by the reconnect handler.
	link    context.Context
	newLink context.CancelFunc
	// resubscribing is set while a subscription is refused; nil at other times.
	resubscribing *time.Timer
}

// Connect returns a connection once a server has accepted it. While none does
// it tries again, logging one line per try, until ctx ends. It fails at once
// only if the configuration cannot be right.
func Connect(ctx context.Context, cfg Config, log *zap.Logger) (*Conn, error) {
	where, err := redacted(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = defaultAckWait
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	login, err := cfg.checkFiles()
	if err != nil {
		return nil, err
	}
	c := &Conn{cfg: cfg, id: crand.Text(), log: log.Named("nats"), closed: make(chan struct{})}
	c.reports.log = c.log
	c.link, c.newLink = context.WithCancel(context.Background())
	for try := 0; ; try++ {
		c.nc, err = nats.Connect(cfg.URL, append(c.options(where), login...)...)
		if err == nil {
			break
		}
		wait := delay(try)
		c.log.Info("waiting for nats at "+where, zap.Error(err), zap.Duration("again_in", wait))
		if !backoff.Pause(ctx, wait) {
			return nil, fmt.Errorf("connect to nats at %s: %w", where, errors.Join(context.Cause(ctx), err))
		}
	}
	c.js, err = jetstream.New(c.nc,
		jetstream.WithPublishAsyncMaxPending(maxUnconfirmed),
		jetstream.WithPublishAsyncTimeout(confirmTimeout),
		jetstream.WithDefaultTimeout(cfg.RequestTimeout))
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	c.log.Info("connected to nats", zap.String("url", where))
	return c, nil
}

// checkFiles reads the files that the config names once, so that a wrong path
// is told at once, and returns the options that an nkey is used by.
func (cfg Config) checkFiles() ([]nats.Option, error) {
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("nats.ca_file: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("nats.ca_file: %s holds no certificate; give PEM", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("nats.cert_file and nats.key_file: %w", err)
		}
	}
	if cfg.CredsFile != "" {
		if _, err := os.Stat(cfg.CredsFile); err != nil {
			return nil, fmt.Errorf("nats.creds_file: %w", err)
		}
	}
	if cfg.NKeyFile == "" {
		return nil, nil
	}
	option, err := nats.NkeyOptionFromSeed(cfg.NKeyFile)
	if err != nil {
		return nil, fmt.Errorf("nats.nkey_file: %w", err)
	}
	return []nats.Option{option}, nil
}

func (c *Conn) options(where string) []nats.Option {
	opts := []nats.Option{
		nats.Name(c.cfg.Name),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		// A refused login is no reason to give up: credentials are rotated on
		// the server and on the client in either order.
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(delay),
		nats.PingInterval(pingEvery),
		// A pull's inbox holds one message and a few heartbeats; the default of
		// 65,536 costs half a megabyte for each pull.
		nats.SyncQueueLen(pullInbox),
		nats.MaxPingsOutstanding(maxPingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: we closed it
				c.log.Warn("lost nats at "+where, zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.log.Info("connected to nats again", zap.String("url", where))
			c.mu.Lock()
			again := c.newLink
			c.link, c.newLink = context.WithCancel(context.Background())
			c.mu.Unlock()
			again()
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			log := c.log
			if sub != nil {
				log = log.With(zap.String("subject", sub.Subject))
			}
			log.Warn("nats reports a problem", zap.Error(err))
			if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), "Subscription to") {
				c.resubscribe()
			}
		}),
	}
	if c.cfg.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(nats.InboxPrefix+c.cfg.Inbox))
	}
	if c.cfg.User != "" {
		opts = append(opts, nats.UserInfo(c.cfg.User, c.cfg.Password.Reveal()))
	}
	if c.cfg.Token != "" {
		opts = append(opts, nats.Token(c.cfg.Token.Reveal()))
	}
	if c.cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(c.cfg.CredsFile))
	}
	if c.cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.cfg.CAFile))
	}
	if c.cfg.CertFile != "" {
		opts = append(opts, nats.ClientCert(c.cfg.CertFile, c.cfg.KeyFile))
	}
	return opts
}

// resubscribe has the connection made anew after a while, and with it all that is
// subscribed to. The server forgets a subscription that it refuses, so one that is
// allowed again later would never be heard on: no request would be answered, and
// no answer arrive, until something else cut the connection.
func (c *Conn) resubscribe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resubscribing != nil {
		return
	}
	c.resubscribing = time.AfterFunc(resubscribeAfter, func() {
		c.mu.Lock()
		c.resubscribing = nil
		c.mu.Unlock()
		if err := c.nc.ForceReconnect(); err != nil { // closed meanwhile
			c.log.Debug("not subscribed again", zap.Error(err))
		}
	})
}

// Close stops all subscriptions, hands over what they had received, sends what
// was published and closes the connection. It waits for that until ctx ends;
// the connection is closed in any case.
func (c *Conn) Close(ctx context.Context) error {
	defer c.asks.running.Wait() // requests fail once the connection is closed
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.newLink()
		if c.resubscribing != nil {
			c.resubscribing.Stop()
		}
	}()
	if c.nc.IsConnected() {
		select {
		case <-c.js.PublishAsyncComplete():
		case <-ctx.Done():
		}
		if err := c.nc.Drain(); err == nil {
			select {
			case <-c.closed:
				return nil
			case <-ctx.Done():
			}
		}
	}
	unsent, _ := c.nc.Buffered()
	c.nc.Close()
	<-c.closed
	if unsent > 0 {
		return fmt.Errorf("close nats: %d bytes were not sent", unsent)
	}
	return nil
}

// Ready makes a round trip to the server. It is for health checks and fails
// with a *uploads.UnavailableError.
func (c *Conn) Ready(ctx context.Context) error {
	err := nats.ErrDisconnected
	if c.nc.IsConnected() {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.cfg.RequestTimeout)
			defer cancel()
		}
		err = c.nc.FlushWithContext(ctx)
	}
	return wrap("reach nats", err)
}

// reconnected returns a context that ends when the connection has been
// re-established after the call.
func (c *Conn) reconnected() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// wrap says what was being done, and marks as *uploads.UnavailableError what is
// owed to NATS or one of its streams being away.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if isFull(err) {
		return fmt.Errorf("%s: %w", doing, &uploads.UnavailableError{What: "nats", Full: true, Err: err})
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.Code >= 500 {
		// As while JetStream is disabled, the account has it no more, or no server leads.
		return fmt.Errorf("%s: %w", doing, &uploads.UnavailableError{What: "nats", Err: err})
	}
	for _, away := range []error{
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrConnectionClosed, nats.ErrNoResponders, nats.ErrTimeout,
		jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, jetstream.ErrAsyncPublishTimeout,
		jetstream.ErrTooManyStalledMsgs, jetstream.ErrJetStreamNotEnabled, context.DeadlineExceeded,
	} {
		if errors.Is(err, away) {
			err = &uploads.UnavailableError{What: "nats", Err: err}
			break
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isFull reports whether the server answered that it has no room left: by its own
// bound, that of the account or of the stream, or on the disk.
func isFull(err error) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch e.ErrorCode {
	case jsInsufficientResources, jsMemoryExceeded, jsStorageExceeded, jsStreamStoreFailed:
		return true
	default:
		return false
	}
}

// Error codes of JetStream for which nats.go has no names.
const (
	jsInsufficientResources jetstream.ErrorCode = 10023
	jsMemoryExceeded        jetstream.ErrorCode = 10028
	jsStorageExceeded       jetstream.ErrorCode = 10047
	jsStreamStoreFailed     jetstream.ErrorCode = 10077
)

// redacted returns the servers without credentials. Its error does not quote
// the URL, which may have a password in it.
func redacted(urls string) (string, error) {
	var servers []string
	for server := range strings.SplitSeq(urls, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil || u.Host == "" {
			return "", errors.New("the nats url cannot be read; give it as nats://host:4222")
		}
		servers = append(servers, u.Scheme+"://"+u.Host)
	}
	return strings.Join(servers, ","), nil
}

// delay returns how long to wait after one failure more than those before it.
func delay(failures int) time.Duration {
	return backoff.Delay(failures+1, minDelay, maxDelay)
}

// condition logs a state of affairs when it changes, not when it is met again.
type condition struct {
	log *zap.Logger

	mu  sync.Mutex
	bad string // what is wrong; "" for nothing
}

// is notes that the named thing is wrong.
func (c *condition) is(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad != what {
		c.bad = what
		c.log.Warn(what, zap.Error(err))
	}
}

// over notes that nothing is wrong.
func (c *condition) over(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad != "" {
		c.bad = ""
		c.log.Info(what)
	}
}
