package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/sealing"
	"mediaferry/internal/uploads"
)

// Bounds of settings.
const (
	defaultWindow = 256 << 20 // bytes
	minWindow     = 32 << 20  // bytes; less cannot hold a run of the platforms' larger parts
	maxSlots      = 256
	minConns      = 4 // feeder, ledger, control steps and API each need one
	maxConns      = 1000
	maxReplicas   = 5  // of JetStream
	maxIdent      = 64 // characters, of uploads.CheckIdent
)

// problemList collects what is wrong, and what would be right.
type problemList struct {
	errs    []error
	allowed map[string]string // by field, what the checks let through; see Reference
}

func (p *problemList) add(field, format string, args ...any) {
	p.errs = append(p.errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

func (p *problemList) allow(field, format string, args ...any) {
	if p.allowed == nil {
		p.allowed = map[string]string{}
	}
	p.allowed[field] = fmt.Sprintf(format, args...)
}

func (p *problemList) ident(field, value string) {
	p.allow(field, "letters, digits, - and _; at most %d", maxIdent)
	if err := uploads.CheckIdent(value); err != nil {
		p.add(field, "%v", err)
	}
}

func (p *problemList) oneOf(field, value string, options ...string) {
	p.allow(field, "%s", strings.Join(options, ", "))
	if !slices.Contains(options, value) {
		p.add(field, "%q is not known; give one of %s", value, strings.Join(options, ", "))
	}
}

func (p *problemList) between(field string, value, low, high int) {
	p.allow(field, "%d to %d", low, high)
	if value < low || value > high {
		p.add(field, "is %d; give a number from %d to %d", value, low, high)
	}
}

func (p *problemList) duration(field string, value, low, high time.Duration) {
	p.allow(field, "%s to %s", short(low), short(high))
	if value < low || value > high {
		p.add(field, "is %s; give a duration from %s to %s", value, low, high)
	}
}

func (a *Account) setDefaults() {
	if a.Tenant == "" {
		a.Tenant = "default"
	}
	if a.Pool == "" {
		a.Pool = "default"
	}
	if a.Window == 0 {
		a.Window = defaultWindow
	}
	if a.SourceCheck == "" {
		a.SourceCheck = "known"
	}
}

func (d Dispatcher) problems(rules AccountRules) problemList {
	var p problemList
	p.nats(d.NATS)
	p.between("stream_replicas", d.StreamReplicas, 1, maxReplicas)
	if d.Postgres.DSN == "" {
		p.add("postgres.dsn", "is missing; give the database's URL, or a reference such as env:DATABASE_URL")
	}
	p.between("postgres.max_conns", d.Postgres.MaxConns, minConns, maxConns)
	p.staging(d.Staging)
	p.presign(d.Presign, d.Staging)
	p.api(d.API)
	p.log(d.Log)
	p.observe(d.Metrics, d.Tracing)
	if d.SealKey == "" {
		p.add("seal_key", "is missing; make one with: openssl rand -base64 32")
	} else if _, err := sealing.New(d.SealKey.Reveal()); err != nil {
		p.add("seal_key", "%v", err)
	}
	for i, key := range d.OldSealKeyTexts() {
		if _, err := sealing.New(key); err != nil {
			p.add("old_seal_keys", "number %d %v", i+1, err)
		}
	}
	p.duration("sweep_interval", d.SweepInterval, time.Second, time.Hour)
	p.duration("stop_grace", d.StopGrace, 0, time.Hour)
	if len(d.Accounts) == 0 {
		p.add("accounts", "is empty; configure at least one destination")
	}
	p.webhooks(d.Webhooks)
	p.notifications(d, rules)
	seen := map[string]int{}
	for i, a := range d.Accounts {
		p.account(i, a, rules)
		if first, ok := seen[a.Name]; ok && a.Name != "" {
			p.add(fmt.Sprintf("accounts[%d].name", i), "%q is also that of accounts[%d]; give each its own", a.Name, first)
			continue
		}
		seen[a.Name] = i
	}
	return p
}

func (p *problemList) api(a API) {
	p.address("api.listen", a.Listen)
	host, _, err := net.SplitHostPort(a.Listen)
	p.oneOf("api.auth", a.Auth, AuthToken, AuthNone)
	if a.Auth == AuthNone && err == nil && !isLoopback(host) {
		p.add("api.auth", "none lets everybody who reaches %s do everything; listen on 127.0.0.1, or give token", a.Listen)
	}
	p.pair("api", a.CertFile, a.KeyFile)
}

// pair checks that a certificate comes with its key.
func (p *problemList) pair(at, certFile, keyFile string) {
	if (certFile == "") != (keyFile == "") {
		p.add(at+".cert_file", "and %s.key_file go together; give both or neither", at)
	}
}

// isLoopback reports whether only this machine reaches the host. Names other
// than localhost may resolve to anything.
func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

func (p *problemList) account(i int, a Account, rules AccountRules) {
	at := fmt.Sprintf("accounts[%d]", i)
	p.ident(at+".name", a.Name)
	p.ident(at+".tenant", a.Tenant)
	p.ident(at+".pool", a.Pool)
	p.allow(at+".window", "%s or more", ByteSize(minWindow))
	if a.Window < minWindow {
		p.add(at+".window", "is %s; give at least %s", a.Window, ByteSize(minWindow))
	}
	for _, network := range a.AllowNetworks {
		if _, err := netip.ParsePrefix(network); err != nil {
			p.add(at+".allow_networks", "%.40q is not a network; give one such as 10.0.0.0/8", network)
		}
	}
	p.oneOf(at+".source_check", a.SourceCheck, "known", "pass")
	if !slices.Contains(rules.Providers, a.Provider) {
		p.oneOf(at+".provider", a.Provider, rules.Providers...)
		return
	}
	if rules.Check == nil {
		return
	}
	if err := rules.Check(a.Provider, a.ProviderAccount()); err != nil {
		p.nested(fmt.Sprintf("%s (%s)", at, a.Name), err)
	}
}

// nested adds every error of a join, each field below the one given.
func (p *problemList) nested(at string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			p.nested(at, e)
		}
		return
	}
	if f, ok := errors.AsType[*uploads.FieldError](err); ok {
		p.add(at+"."+f.Field, "%s", f.Detail)
		return
	}
	p.add(at, "%v", err)
}

func (w Worker) problems() problemList {
	var p problemList
	p.ident("id", w.ID)
	p.ident("pool", w.Pool)
	p.between("slots", w.Slots, 1, maxSlots)
	p.nats(w.NATS)
	p.staging(w.Staging)
	p.log(w.Log)
	p.observe(w.Metrics, w.Tracing)
	if w.Health.Listen != "" {
		p.address("health.listen", w.Health.Listen)
	}
	p.duration("stall_timeout", w.StallTimeout, time.Second, 10*time.Minute)
	p.duration("stop_grace", w.StopGrace, 0, time.Hour)
	return p
}

func (p *problemList) nats(n NATS) {
	for server := range strings.SplitSeq(n.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			p.add("nats.url", "is not a server's URL; give one like nats://127.0.0.1:4222")
		case u.User != nil:
			// It would be printed with the settings.
			p.add("nats.url", "has credentials in it; give them as nats.user and nats.password")
		}
	}
	if (n.User == "") != (n.Password == "") {
		p.add("nats.user", "and nats.password go together; give both or neither")
	}
	ways := 0
	for _, given := range []bool{n.User != "", n.Token != "", n.CredsFile != "", n.NKeyFile != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		p.add("nats", "has several credentials; give user and password, or token, or creds_file, or nkey_file")
	}
	p.pair("nats", n.CertFile, n.KeyFile)
}

func (p *problemList) staging(s Staging) {
	u, err := url.Parse(s.Endpoint)
	switch {
	case s.Endpoint == "":
		p.add("staging.endpoint", "is missing; give the store's URL, such as https://s3.eu-central-1.amazonaws.com")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.User != nil:
		p.add("staging.endpoint", "is not a store's URL; give http:// or https://, host and port alone")
	}
	if s.Region == "" {
		p.add("staging.region", "is missing; give us-east-1 where the store has none")
	}
	if (s.AccessKey == "") != (s.SecretKey == "") {
		p.add("staging.access_key", "and staging.secret_key go together; give both, or neither for public buckets")
	}
}

func (p *problemList) address(field, value string) {
	if _, port, err := net.SplitHostPort(value); err != nil || !isPort(port) {
		p.add(field, "%q is not an address; give host:port, such as 127.0.0.1:8080", value)
	}
}

func (p *problemList) log(l Log) {
	p.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", l.Format, "json", "console")
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// workerID makes host and pid a name that uploads.CheckIdent takes. A long host
// name loses its end, not the pid, which tells workers of one host apart.
func workerID(host string, pid int) string {
	clean := strings.Map(func(r rune) rune {
		if uploads.CheckIdent(string(r)) != nil {
			return '-'
		}
		return r
	}, host)
	suffix := "-" + strconv.Itoa(pid)
	return clean[:min(len(clean), maxIdent-len(suffix))] + suffix
}
