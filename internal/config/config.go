// Package config reads and checks the settings of the dispatcher and the
// worker. A setting comes from the YAML file, is overridden by its environment
// variable and that by its flag; `nats.url` is MEDIAFERRY_NATS_URL and
// --nats.url. Lists and maps come from the file alone. Secrets are never
// flags, since other processes can read those; anywhere else they are the value
// itself or where to find it: `env:NAME` or `file:/path`.
//
// Everything that is wrong is reported together, one line each:
// "field: problem; remedy".
package config

import (
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// Dispatcher is the settings of the dispatcher.
type Dispatcher struct {
	NATS NATS `yaml:"nats"`
	// StreamReplicas is how many servers of a NATS cluster keep each stream. A
	// stream that has fewer is given more; none is ever given less.
	StreamReplicas int `yaml:"stream_replicas"`

	Postgres Postgres `yaml:"postgres"`
	Staging  Staging  `yaml:"staging"`
	Presign  Presign  `yaml:"presign,omitempty"`
	API      API      `yaml:"api"`
	Log      Log      `yaml:"log"`
	Metrics  Metrics  `yaml:"metrics"`
	Tracing  Tracing  `yaml:"tracing"`

	// SealKey seals upstream sessions in the database: 32 bytes, as base64 or
	// hex, the same in every dispatcher. Without it what is sealed is lost.
	SealKey providers.Secret `yaml:"seal_key,omitempty"`
	// OldSealKeys open what they sealed and seal nothing; several are parted by
	// commas.
	OldSealKeys providers.Secret `yaml:"old_seal_keys,omitempty"`

	// SweepInterval is the pause between comparisons of ledger and queue.
	SweepInterval time.Duration `yaml:"sweep_interval"`
	// StopGrace is how long a call to a platform, or a request to the API, may go
	// on after a signal to stop.
	StopGrace time.Duration `yaml:"stop_grace"`

	Accounts []Account `yaml:"accounts"`           // the destinations, one at least
	Webhooks []Webhook `yaml:"webhooks,omitempty"` // who is told of events
	// Notifications are rules for what buckets' stores tell of new objects.
	Notifications []Notification `yaml:"notifications,omitempty"`

	// Warnings are what is unwise in the settings, for the log.
	Warnings []string `yaml:"-"`
	// AskHealth is --health: nothing is to be started.
	AskHealth bool `yaml:"-"`
}

// Worker is the settings of a worker.
type Worker struct {
	// ID tells workers apart in heartbeats and the ledger; by default host name
	// and process id.
	ID string `yaml:"id"`
	// Pool is whose jobs it takes: those of the accounts that name the pool.
	Pool string `yaml:"pool"`
	// Slots is how many jobs it takes at once.
	Slots int `yaml:"slots"`

	NATS    NATS    `yaml:"nats"`
	Staging Staging `yaml:"staging"`
	Log     Log     `yaml:"log"`
	Health  Health  `yaml:"health"`
	Metrics Metrics `yaml:"metrics"`
	Tracing Tracing `yaml:"tracing"`

	// StallTimeout is how long a job may move no byte before the attempt is given
	// up: the platform is silent then, or staging is. One that moves less than
	// 1 KiB a second over ten times as long is given up too.
	StallTimeout time.Duration `yaml:"stall_timeout"`

	// StopGrace is how long parts in hand may go on after a signal to stop; what
	// is not done then is delivered again to another worker, as the parts of
	// their runs that were not begun are at once.
	StopGrace time.Duration `yaml:"stop_grace"`

	// Warnings are what is unwise in the settings, for the log.
	Warnings []string `yaml:"-"`
	// AskHealth is --health: nothing is to be started.
	AskHealth bool `yaml:"-"`
}

// NATS is how to reach the message server. At most one of user and password,
// token, credentials file, or nkey is given.
type NATS struct {
	URL       string           `yaml:"url"`                  // nats:// or tls://, several with commas
	User      string           `yaml:"user,omitempty"`       // goes with the password
	Password  providers.Secret `yaml:"password,omitempty"`   // goes with the user
	Token     providers.Secret `yaml:"token,omitempty"`      // for servers that ask for nothing else
	CredsFile string           `yaml:"creds_file,omitempty"` // path of a .creds file
	NKeyFile  string           `yaml:"nkey_file,omitempty"`  // path of an nkey's seed
	CAFile    string           `yaml:"ca_file,omitempty"`    // PEM; the system's authorities if empty
	CertFile  string           `yaml:"cert_file,omitempty"`  // PEM, for servers that ask for one
	KeyFile   string           `yaml:"key_file,omitempty"`   // PEM, of that certificate
}

// Postgres is how to reach the ledger.
type Postgres struct {
	DSN      providers.Secret `yaml:"dsn,omitempty"` // URL or key=value form
	MaxConns int              `yaml:"max_conns"`     // connections of this process
}

// Staging is how to reach the S3-compatible store that uploads are read from.
type Staging struct {
	Endpoint  string           `yaml:"endpoint"`             // URL without a path
	Region    string           `yaml:"region"`               // part of what is signed; us-east-1 where the store has none
	AccessKey string           `yaml:"access_key,omitempty"` // neither key for public buckets
	SecretKey providers.Secret `yaml:"secret_key,omitempty"` // goes with the access key
	PathStyle bool             `yaml:"path_style"`           // bucket in the path, not in the host name
	CAFile    string           `yaml:"ca_file,omitempty"`    // PEM; the system's authorities if empty
}

// Ways to let requests in.
const (
	AuthToken = "token"
	AuthNone  = "none"
)

// API is the HTTP server.
type API struct {
	Listen string `yaml:"listen"` // host:port
	// Auth is token, or none where only this machine can reach the address.
	Auth string `yaml:"auth"`
	// CertFile, in PEM, makes it HTTPS; it is read again when it changes, and so is
	// the key.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"` // PEM, of that certificate
}

// Health is a worker's HTTP server of /livez, /readyz and /startupz.
type Health struct {
	Listen string `yaml:"listen,omitempty"` // host:port; empty for none
}

// Metrics is the HTTP server of /metrics, which asks nobody who they are; on a
// loopback address it has /debug/pprof/ too.
type Metrics struct {
	Listen string `yaml:"listen,omitempty"` // host:port; empty for none
}

// Tracing is where spans go. The variables OTEL_* hold as well, so that without
// an endpoint here OTEL_EXPORTER_OTLP_ENDPOINT turns it on.
type Tracing struct {
	Endpoint string `yaml:"endpoint,omitempty"` // URL of a collector, OTLP over HTTP; empty for none
	// Sample is the share of uploads that are traced; give every process the same.
	Sample float64 `yaml:"sample"`
}

// Log is what is logged, to standard error.
type Log struct {
	Level  string `yaml:"level"`  // the least that is written
	Format string `yaml:"format"` // for machines json, for people console
}

// Account is a destination: credentials and limits at a platform.
type Account struct {
	Name     string `yaml:"name"`     // what submissions call it; unique
	Tenant   string `yaml:"tenant"`   // who may submit to it
	Provider string `yaml:"provider"` // which protocol
	Pool     string `yaml:"pool"`     // the workers that serve it
	// Window is the most bytes in flight upstream.
	Window ByteSize `yaml:"window"`
	// SourceCheck is what the bytes read from staging are compared with: known
	// (a digest that the bucket or the submitter gives, nothing where there is
	// none) or pass (where there is none, that of a digest pass made first).
	SourceCheck string                      `yaml:"source_check"`
	Settings    map[string]string           `yaml:"settings,omitempty"` // the provider's own
	Secrets     map[string]providers.Secret `yaml:"secrets,omitempty"`  // the provider's own
	// AllowNetworks are networks that the platform may send us to beside public
	// addresses, such as 10.0.0.0/8. Addresses in the settings need none.
	AllowNetworks []string `yaml:"allow_networks,omitempty"`
}

// ProviderAccount returns the account as providers take it.
func (a Account) ProviderAccount() providers.Account {
	return providers.Account{Name: a.Name, Settings: a.Settings, Secrets: a.Secrets}
}

func dispatcherDefaults() Dispatcher {
	return Dispatcher{
		NATS:           natsDefaults(),
		StreamReplicas: 1,
		Postgres:       Postgres{MaxConns: 16},
		Staging:        stagingDefaults(),
		API:            API{Listen: "127.0.0.1:8080", Auth: AuthToken},
		Log:            logDefaults(),
		Tracing:        Tracing{Sample: 1},
		SweepInterval:  2 * time.Second,
		StopGrace:      20 * time.Second,
	}
}

func workerDefaults(host string, pid int) Worker {
	return Worker{
		ID:           workerID(host, pid),
		Pool:         "default",
		Slots:        16,
		NATS:         natsDefaults(),
		Staging:      stagingDefaults(),
		Log:          logDefaults(),
		Tracing:      Tracing{Sample: 1},
		StallTimeout: 30 * time.Second,
		StopGrace:    20 * time.Second,
	}
}

func natsDefaults() NATS { return NATS{URL: "nats://127.0.0.1:4222"} }

func stagingDefaults() Staging { return Staging{Region: "us-east-1", PathStyle: true} }

func logDefaults() Log { return Log{Level: "info", Format: "json"} }

// OldSealKeyTexts returns the old seal keys, one each.
func (d Dispatcher) OldSealKeyTexts() []string {
	var keys []string
	for key := range strings.SplitSeq(d.OldSealKeys.Reveal(), ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
