package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"mediaferry/client"
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
	accountS3     = "local-s3"
	accountUGC    = "local-ugc"
	ugcKeyID      = "AKIDlocal"
)

// stackOptions say what a stack is to be like.
type stackOptions struct {
	data    string    // folder that is kept; "" for one that is removed
	api     string    // host:port; "" takes a free port
	workers int       // processes
	slots   int       // of each worker
	level   string    // of the logs
	logs    io.Writer // of all processes
}

// stack is everything that mediaferry needs on one machine: the servers around
// it, local platforms, a dispatcher and workers as processes of their own.
type stack struct {
	opts      stackOptions
	dir       *devstack.Dir
	nats      *devstack.NATS
	postgres  *devstack.Postgres
	s3        *devstack.S3
	vod       *upstreams.VOD
	meter     *upstreams.Meter
	processes *devstack.Processes
	api       *client.Client
	apiURL    string
	ugcURL    string
	meterURL  string
	ugcSecret providers.Secret
	stops     []func() error // in the order of the starts
}

// startStack starts everything and returns when the dispatcher takes
// submissions. What was started is stopped again if something fails.
func startStack(ctx context.Context, opts stackOptions) (s *stack, err error) {
	s = &stack{opts: opts}
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
	if s.nats, err = devstack.StartNATS(s.dir.Join("nats"), 0); err != nil {
		return err
	}
	s.onStop(func() error { s.nats.Stop(); return nil })
	if s.postgres, err = devstack.StartPostgres(ctx, s.dir.Join("postgres"), devstack.PostgresOptions{}); err != nil {
		return err
	}
	s.onStop(func() error { s.postgres.Stop(); return nil })
	s.s3, err = devstack.StartS3(ctx, s.dir.Join("s3"), devstack.S3Options{Buckets: []string{stagingBucket, destBucket}})
	if err != nil {
		return err
	}
	s.onStop(func() error { s.s3.Stop(); return nil })
	return nil
}

func (s *stack) startPlatforms(ctx context.Context) error {
	s.ugcSecret = providers.Secret(rand.Text())
	media := s.dir.Join("vod")
	if err := os.MkdirAll(media, 0o700); err != nil {
		return fmt.Errorf("folder of the local VOD: %w", err)
	}
	s.vod = upstreams.NewVOD(upstreams.VODConfig{Keys: map[string]string{ugcKeyID: s.ugcSecret.Reveal()}, Dir: media})
	ugc, err := upstreams.Serve(ctx, "", s.vod)
	if err != nil {
		return err
	}
	s.onStop(ugc.Close)
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // always so
	transport.MaxIdleConnsPerHost = 64
	if s.meter, err = upstreams.NewMeter(s.s3.Endpoint(), transport, 0); err != nil {
		return err
	}
	meter, err := upstreams.Serve(ctx, "", s.meter)
	if err != nil {
		return err
	}
	s.onStop(func() error { transport.CloseIdleConnections(); return meter.Close() })
	s.ugcURL, s.meterURL = ugc.URL, meter.URL
	s.processes = devstack.NewProcesses(s.opts.logs)
	s.onStop(func() error { s.processes.Stop(25 * time.Second); return nil })
	return nil
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
	s3 := s.s3.Config()
	if s.opts.api == "" {
		if s.opts.api, err = freeAddress(ctx); err != nil {
			return err
		}
	}
	s.apiURL = "http://" + s.opts.api
	// Secrets go by reference, so that the file holds none.
	raw, err := yaml.Marshal(map[string]any{"accounts": []map[string]any{
		{
			"name": accountS3, "provider": "s3",
			"settings": map[string]string{"endpoint": s.meterURL, "bucket": destBucket, "region": "us-east-1", "path_style": "true"},
			"secrets":  map[string]string{"access_key": "env:DEV_S3_ACCESS_KEY", "secret_key": "env:DEV_S3_SECRET_KEY"}, //nolint:gosec // references
		},
		{
			"name": accountUGC, "provider": "tencentugc",
			"settings": map[string]string{"endpoint": s.ugcURL},
			"secrets":  map[string]string{"secret_id": "env:DEV_UGC_SECRET_ID", "secret_key": "env:DEV_UGC_SECRET_KEY"}, //nolint:gosec // references
		},
	}})
	if err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	path := s.dir.Join("dispatcher.yaml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	_, err = s.processes.Start(ctx, devstack.Command{
		Name: "dispatcher", Args: []string{"dispatcher", "--config", path},
		Env: append(s.common(),
			"MEDIAFERRY_POSTGRES_DSN="+s.postgres.DSN(),
			"MEDIAFERRY_API_LISTEN="+s.opts.api,
			"MEDIAFERRY_SEAL_KEY="+key,
			"MEDIAFERRY_SWEEP_INTERVAL=1s",
			"DEV_S3_ACCESS_KEY="+s3.AccessKey.Reveal(), "DEV_S3_SECRET_KEY="+s3.SecretKey.Reveal(),
			"DEV_UGC_SECRET_ID="+ugcKeyID, "DEV_UGC_SECRET_KEY="+s.ugcSecret.Reveal(),
		),
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
	n := 0
	for range s.processes.PIDs() {
		n++
	}
	name := "worker-" + strconv.Itoa(n)
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
		if err == nil && len(workers) >= s.opts.workers {
			return nil
		}
		if s.processes.PIDs()[0] == 0 {
			return errors.New("the dispatcher ended at its start; its log says why")
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

// freeAddress returns a loopback address that nobody listens on now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	return l.Addr().String(), nil
}
