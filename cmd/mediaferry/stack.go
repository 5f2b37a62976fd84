package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/staging"
	"mediaferry/internal/upstreams"
)

// Names in the stack that `dev` starts.
const (
	stagingBucket = "staging"
	destBucket    = "archive"
	autoPrefix    = "auto/" // what is put below it in staging is submitted by itself
	accountS3     = "local-s3"
	ugcKeyID      = "AKIDlocalugc"
	vodKeyID      = "AKIDlocalvod"
	cosKeyID      = "AKIDlocalcos"
	cdnKeyID      = "local-cdn-key"
	smhLibrary    = "smh1local"

	platformsDir = "platforms" // below the stack's folder: what the local platforms keep
)

// stackOptions say what a stack is to be like.
type stackOptions struct {
	data    string    // folder that is kept; "" for one that is removed
	api     string    // host:port; port 0 takes a free one
	workers int       // processes
	slots   int       // of each worker
	level   string    // of the logs
	logs    io.Writer // of all processes
}

// destination is a local platform with an account at it.
type destination struct {
	account  string
	provider string
	settings map[string]string
	secrets  map[string]providers.Secret
	options  map[string]string // that the demo submits with
	instant  bool              // the platform knows bytes again that it has
	received func() int64      // bytes that came for the account, repeats included
}

// variable names the environment variable that a secret goes by.
func (d destination) variable(secret string) string {
	return strings.ToUpper("DEV_" + strings.ReplaceAll(d.account, "-", "_") + "_" + secret)
}

// stack is everything that mediaferry needs on one machine: the servers around
// it, local platforms, a dispatcher and workers as processes of their own.
type stack struct {
	opts         stackOptions
	dir          *devstack.Dir
	nats         *devstack.NATS
	postgres     *devstack.Postgres
	s3           *devstack.S3
	destinations []destination
	processes    *devstack.Processes
	api          *client.Client
	apiURL       string
	stops        []func() error // in the order of the starts
}

// startStack starts everything and returns when the dispatcher takes
// submissions. What was started is stopped again if something fails.
func startStack(ctx context.Context, opts stackOptions) (s *stack, err error) {
	s = &stack{opts: opts}
	if _, err := freeAddress(ctx, opts.api); err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if opts.data != "" {
		s.dir, err = devstack.KeptDir(opts.data)
	} else {
		s.dir, err = devstack.TempDir()
	}
	if err != nil {
		return s, err
	}
	s.onStop(s.dir.Close)
	for _, start := range []func(context.Context) error{s.startServers, s.startPlatforms, s.startDispatcher} {
		if err := start(ctx); err != nil {
			return s, err
		}
	}
	for range opts.workers {
		if err := s.startWorker(ctx); err != nil {
			return s, err
		}
	}
	return s, s.awaitAPI(ctx)
}

func (s *stack) onStop(f func() error) { s.stops = append(s.stops, f) }

// stop stops everything in the reverse order of the starts.
func (s *stack) stop() error {
	var errs []error
	for _, v := range slices.Backward(s.stops) {
		errs = append(errs, v())
	}
	s.stops = nil
	return errors.Join(errs...)
}

func (s *stack) startServers(ctx context.Context) (err error) {
	if s.nats, err = devstack.StartNATS(s.dir.Join("nats"), 0); err != nil { //nolint:contextcheck // it ends by Stop
		return err
	}
	s.onStop(func() error { s.nats.Stop(); return nil })
	if s.postgres, err = devstack.StartPostgres(ctx, s.dir.Join("postgres"), devstack.PostgresOptions{}); err != nil {
		return err
	}
	s.onStop(func() error { s.postgres.Stop(); return nil })
	s.s3, err = devstack.StartS3(ctx, s.dir.Join("s3"), devstack.S3Options{
		Buckets: []string{stagingBucket, destBucket}, NATSURL: s.nats.URL(), Subject: "mf.notify." + stagingBucket,
	})
	if err != nil {
		return err
	}
	s.onStop(func() error { s.s3.Stop(); return nil })
	return nil
}

// startPlatforms serves the local platforms and makes the accounts at them.
func (s *stack) startPlatforms(ctx context.Context) error {
	// What the local platforms know ends with this process, so that bytes which
	// an earlier one left in a kept folder are nobody's.
	if err := os.RemoveAll(s.dir.Join(platformsDir)); err != nil {
		return fmt.Errorf("folder of the local platforms: %w", err)
	}
	for _, start := range []func(context.Context) ([]destination, error){
		s.startArchive, s.startVOD, s.startVODApply, s.startWCS, s.startSMH,
	} {
		destinations, err := start(ctx)
		if err != nil {
			return err
		}
		s.destinations = append(s.destinations, destinations...)
	}
	s.processes = devstack.NewProcesses(s.opts.logs)
	s.onStop(func() error { s.processes.Stop(25 * time.Second); return nil })
	return nil
}

// platformDir makes the folder of a local platform.
func (s *stack) platformDir(name string) (string, error) {
	dir := filepath.Join(s.dir.Join(platformsDir), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of the local platforms: %w", err)
	}
	return dir, nil
}

// servePlatform serves a local platform until the stack stops, and returns its URL.
func (s *stack) servePlatform(ctx context.Context, handler http.Handler) (string, error) {
	server, err := upstreams.Serve(ctx, "", handler)
	if err != nil {
		return "", err
	}
	s.onStop(server.Close)
	return server.URL, nil
}

// startArchive makes an account at the S3 server, where the bytes are counted on
// their way.
func (s *stack) startArchive(ctx context.Context) ([]destination, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	s.onStop(func() error { transport.CloseIdleConnections(); return nil })
	meter, err := upstreams.NewMeter(s.s3.Endpoint(), transport, 0)
	if err != nil {
		return nil, err
	}
	url, err := s.servePlatform(ctx, meter)
	s3 := s.s3.Config()
	return []destination{{
		account: accountS3, provider: "s3",
		settings: map[string]string{"endpoint": url, "bucket": destBucket, "region": "us-east-1", "path_style": "true"},
		secrets:  map[string]providers.Secret{"access_key": s3.AccessKey, "secret_key": s3.SecretKey},
		received: total(meter.Files, func(f upstreams.MeterFile) int64 { return f.BytesReceived }),
	}}, err
}

// startVOD serves two accounts. Each has a key of its own: the VOD knows files by
// key and SHA-1, and two accounts with one key would share them.
func (s *stack) startVOD(ctx context.Context) ([]destination, error) {
	dir, err := s.platformDir("vod")
	if err != nil {
		return nil, err
	}
	ugcKey, vodKey := rand.Text(), rand.Text()
	vod := upstreams.NewVOD(upstreams.VODConfig{Keys: map[string]string{ugcKeyID: ugcKey, vodKeyID: vodKey}, Dir: dir})
	url, err := s.servePlatform(ctx, vod)
	of := func(key string) func() int64 {
		return total(vod.Files, func(f upstreams.VODFile) int64 {
			if f.Account != key {
				return 0
			}
			return f.BytesReceived
		})
	}
	return []destination{
		{
			account: "local-ugc", provider: "tencentugc", instant: true,
			settings: map[string]string{"endpoint": url},
			secrets:  map[string]providers.Secret{"secret_id": ugcKeyID, "secret_key": providers.Secret(ugcKey)},
			received: of(ugcKeyID),
		},
		{
			account: "local-vod", provider: "tencentvod", instant: true,
			settings: map[string]string{"endpoint": url},
			secrets:  map[string]providers.Secret{"secret_id": vodKeyID, "secret_key": providers.Secret(vodKey)},
			received: of(vodKeyID),
		},
	}, err
}

func (s *stack) startVODApply(ctx context.Context) ([]destination, error) {
	dir, err := s.platformDir("cos")
	if err != nil {
		return nil, err
	}
	key := rand.Text()
	cos := upstreams.NewVODApply(upstreams.VODApplyConfig{Keys: map[string]string{cosKeyID: key}, Dir: dir})
	url, err := s.servePlatform(ctx, cos)
	return []destination{{
		account: "local-cos", provider: "tencentcos",
		settings: map[string]string{"endpoint": url, "cos_endpoint": url},
		secrets:  map[string]providers.Secret{"secret_id": cosKeyID, "secret_key": providers.Secret(key)},
		received: total(cos.Files, func(f upstreams.AppliedFile) int64 { return f.BytesReceived }),
	}}, err
}

func (s *stack) startWCS(ctx context.Context) ([]destination, error) {
	dir, err := s.platformDir("cdn")
	if err != nil {
		return nil, err
	}
	key := rand.Text()
	cdn := upstreams.NewWCS(upstreams.WCSConfig{Keys: map[string]string{cdnKeyID: key}, Dir: dir})
	url, err := s.servePlatform(ctx, cdn)
	return []destination{{
		account: "local-cdn", provider: "cdnetworks",
		settings: map[string]string{"endpoint": url, "playback_url": url + "/media"},
		secrets:  map[string]providers.Secret{"access_key": cdnKeyID, "secret_key": providers.Secret(key)},
		received: total(cdn.Files, func(f upstreams.WCSFile) int64 { return f.BytesReceived }),
	}}, err
}

func (s *stack) startSMH(ctx context.Context) ([]destination, error) {
	dir, err := s.platformDir("smh")
	if err != nil {
		return nil, err
	}
	key := rand.Text()
	smh := upstreams.NewSMH(upstreams.SMHConfig{Libraries: map[string]string{smhLibrary: key}, Dir: dir})
	url, err := s.servePlatform(ctx, smh)
	return []destination{{
		account: "local-smh", provider: "tencentsmh", instant: true,
		settings: map[string]string{"endpoint": url, "library_id": smhLibrary},
		secrets:  map[string]providers.Secret{"library_secret": providers.Secret(key)},
		options:  map[string]string{"conflict": "overwrite"}, // a name that is taken is refused otherwise
		received: total(smh.Files, func(f upstreams.SMHFile) int64 { return f.BytesReceived }),
	}}, err
}

// total returns a function that adds what each of a server's files has.
func total[F any](files func() []F, of func(F) int64) func() int64 {
	return func() (n int64) {
		for _, f := range files() {
			n += of(f)
		}
		return n
	}
}

// sealKey returns the key of a kept folder, so that sessions that were opened
// before it was stopped can be read, or makes one.
func (s *stack) sealKey() (string, error) {
	path := s.dir.Join("seal.key")
	key, err := os.ReadFile(path) //nolint:gosec // in our own folder
	if errors.Is(err, os.ErrNotExist) {
		fresh := sealing.NewKey()
		if err := os.WriteFile(path, []byte(fresh), 0o600); err != nil {
			return "", fmt.Errorf("keep the seal key: %w", err)
		}
		return fresh, nil
	}
	return string(key), err
}

func (s *stack) startDispatcher(ctx context.Context) error {
	key, err := s.sealKey()
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	if s.opts.api, err = freeAddress(ctx, s.opts.api); err != nil {
		return err
	}
	s.apiURL = "http://" + s.opts.api
	env := append(s.common(),
		"MEDIAFERRY_POSTGRES_DSN="+s.postgres.DSN(),
		"MEDIAFERRY_API_LISTEN="+s.opts.api,
		"MEDIAFERRY_API_AUTH="+config.AuthNone, // refused where others can reach the address
		"MEDIAFERRY_SEAL_KEY="+key,
		"MEDIAFERRY_SWEEP_INTERVAL=1s",
		"MEDIAFERRY_PRESIGN_BUCKET=staging",
	)
	// Secrets go by reference, so that the file holds none.
	var accounts []map[string]any
	for _, d := range s.destinations {
		references := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
			references[name] = "env:" + d.variable(name)
			env = append(env, d.variable(name)+"="+d.secrets[name].Reveal())
		}
		accounts = append(accounts, map[string]any{
			"name": d.account, "provider": d.provider, "settings": d.settings, "secrets": references,
			"allow_networks": []string{"127.0.0.0/8", "::1/128"}, // where the local platforms are
		})
	}
	notifications := []map[string]any{{"bucket": stagingBucket, "prefix": autoPrefix, "accounts": []string{s.destinations[0].account}}}
	raw, err := yaml.Marshal(map[string]any{"accounts": accounts, "notifications": notifications})
	if err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	path := s.dir.Join("dispatcher.yaml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	_, err = s.processes.Start(ctx, devstack.Command{
		Name: "dispatcher", Args: []string{"dispatcher", "--config", path},
		Env: env,
	})
	return err
}

// common is the environment of dispatcher and workers alike.
func (s *stack) common() []string {
	s3 := s.s3.Config()
	return []string{
		"MEDIAFERRY_NATS_URL=" + s.nats.URL(),
		"MEDIAFERRY_STAGING_ENDPOINT=" + s3.Endpoint,
		"MEDIAFERRY_STAGING_ACCESS_KEY=" + s3.AccessKey.Reveal(),
		"MEDIAFERRY_STAGING_SECRET_KEY=" + s3.SecretKey.Reveal(),
		"MEDIAFERRY_LOG_LEVEL=" + s.opts.level,
		"MEDIAFERRY_LOG_FORMAT=console",
	}
}

// startWorker starts one more worker process. Process 0 is the dispatcher, so
// worker n is process n.
func (s *stack) startWorker(ctx context.Context) error {
	name := "worker-" + strconv.Itoa(len(s.processes.PIDs()))
	_, err := s.processes.Start(ctx, devstack.Command{
		Name: name, Args: []string{"worker"},
		Env: append(s.common(), "MEDIAFERRY_ID="+name, "MEDIAFERRY_SLOTS="+strconv.Itoa(s.opts.slots)),
	})
	return err
}

// awaitAPI returns when the dispatcher takes submissions and every worker has
// been heard of.
func (s *stack) awaitAPI(ctx context.Context) (err error) {
	if s.api, err = client.New(s.apiURL, "default"); err != nil {
		return err
	}
	s.onStop(func() error { s.api.Close(); return nil })
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		workers, err := s.api.Workers(ctx)
		if s.processes.PIDs()[0] == 0 { // whoever answered
			return errors.New("the dispatcher ended at its start; its log says why")
		}
		if err == nil && len(workers) >= s.opts.workers {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for dispatcher and workers: %w", errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

func (s *stack) openStaging() (*staging.Store, error) {
	return staging.New(s.s3.Config())
}

// freeAddress returns the address with a port in place of 0, or says that it cannot
// be listened on: another program that answers there would be taken for ours.
func freeAddress(ctx context.Context, address string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", usagef("--listen: %v; give another address, 127.0.0.1:0 for any free port", err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	return l.Addr().String(), nil
}
