package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
	"mediaferry/bench/sink"
	"mediaferry/client"
	"mediaferry/internal/devstack"
	"mediaferry/internal/sealing"
)

// mediaferry is our own mover: dispatcher, worker, NATS and Postgres, each a
// process of its own, as they are deployed.
type mediaferry struct {
	env      movers.Env
	keep     string // folder of the servers' data; empty for one that is removed
	sink     sink.Client
	source   *minio.Client
	api      *client.Client
	nats     *server
	dir      *devstack.Dir
	postgres *devstack.Postgres
	children []*exec.Cmd
	roots    map[string]int // process ids by role
}

const (
	oursAccount = "bench"
	oursSlots   = 16
	oursPoll    = 25 * time.Millisecond
	oursPatient = time.Minute // for the start
)

func newMediaferry(env movers.Env) *mediaferry {
	return &mediaferry{env: env, sink: sink.Client{URL: env.Sink}, roots: map[string]int{}}
}

// Name is "ours".
func (m *mediaferry) Name() string { return ours }

// Prepare starts the servers and the two processes.
func (m *mediaferry) Prepare(ctx context.Context) (err error) {
	if m.source, err = sourceClient(m.env); err != nil {
		return err
	}
	if m.keep != "" {
		m.dir, err = devstack.KeptDir(m.keep)
	} else {
		m.dir, err = devstack.TempDir()
	}
	if err != nil {
		return fmt.Errorf("start ours: %w", err)
	}
	streams := m.dir.Join("nats")
	if m.nats, err = startServer(ctx, filepath.Join(m.env.Bin, "natsserver"), nil, "-folder", streams); err != nil {
		return err
	}
	m.roots[movers.RoleNATS] = m.nats.cmd.Process.Pid
	if m.postgres, err = devstack.StartPostgres(ctx, m.dir.Join("postgres"), devstack.PostgresOptions{}); err != nil {
		return fmt.Errorf("start ours: %w", err)
	}
	m.roots[movers.RolePostgres] = m.postgres.PID()

	api, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	accounts := m.dir.Join("dispatcher.yaml")
	if err := os.WriteFile(accounts, []byte(fmt.Sprintf(`accounts:
  - name: %s
    provider: s3
    settings: {endpoint: "%s", bucket: %s, region: us-east-1, path_style: "true"}
    secrets: {access_key: env:BENCH_ACCESS_KEY, secret_key: env:BENCH_SECRET_KEY}
`, oursAccount, m.env.Sink, dstBucket)), 0o600); err != nil {
		return fmt.Errorf("start ours: %w", err)
	}
	common := append(os.Environ(),
		"BENCH_ACCESS_KEY="+m.env.AccessKey, "BENCH_SECRET_KEY="+m.env.SecretKey,
		"MEDIAFERRY_NATS_URL=nats://"+strings.TrimPrefix(m.nats.url, "http://"),
		"MEDIAFERRY_STAGING_ENDPOINT="+m.env.Source,
		"MEDIAFERRY_STAGING_ACCESS_KEY="+m.env.AccessKey, "MEDIAFERRY_STAGING_SECRET_KEY="+m.env.SecretKey,
		"MEDIAFERRY_LOG_LEVEL=warn",
	)
	if err := m.start(ctx, movers.RoleDispatcher, append(common,
		"MEDIAFERRY_POSTGRES_DSN="+m.postgres.DSN(), "MEDIAFERRY_API_LISTEN="+api, "MEDIAFERRY_API_AUTH=none", "MEDIAFERRY_SEAL_KEY="+sealing.NewKey(),
	), "--config", accounts); err != nil {
		return err
	}
	if err := m.start(ctx, movers.RoleWorker, append(common,
		"MEDIAFERRY_ID=bench", "MEDIAFERRY_SLOTS="+strconv.Itoa(oursSlots))); err != nil {
		return err
	}
	if m.api, err = client.New("http://"+api, "default"); err != nil {
		return fmt.Errorf("start ours: %w", err)
	}
	return m.await(ctx, func(ctx context.Context) (bool, error) {
		workers, err := m.api.Workers(ctx)
		return err == nil && len(workers) == 1, nil
	})
}

// start starts one of our binaries; it says what is wrong on standard error.
func (m *mediaferry) start(ctx context.Context, role string, env []string, args ...string) error {
	cmd := movers.Command(context.WithoutCancel(ctx), filepath.Join(m.env.Bin, role), args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", role, err)
	}
	m.children = append(m.children, cmd)
	m.roots[role] = cmd.Process.Pid
	return nil
}

// await asks until done says so.
func (m *mediaferry) await(ctx context.Context, done func(context.Context) (bool, error)) error {
	tick := time.NewTicker(oursPoll)
	defer tick.Stop()
	for {
		ok, err := done(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for ours: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Move submits the bucket as one batch and waits for its end.
func (m *mediaferry) Move(ctx context.Context, srcBucket, _ string, keys []string) (movers.Cost, error) {
	meter, err := movers.StartMeter(m.roots)
	if err != nil {
		return movers.Cost{}, err
	}
	batch, err := m.api.SubmitPrefix(ctx, client.PrefixSubmission{Account: oursAccount, Bucket: srcBucket})
	if err != nil {
		return movers.Cost{}, fmt.Errorf("submit: %w", err)
	}
	if batch.Submitted != len(keys) {
		return movers.Cost{}, fmt.Errorf("%d of %d objects were taken, the first refusal is %+v", batch.Submitted, len(keys), batch.Rejected[:1])
	}
	// What arrived is asked of the sink, whose work is counted for nobody.
	err = m.await(ctx, func(ctx context.Context) (bool, error) {
		stats, err := m.sink.Stats(ctx)
		return stats.Objects == len(keys), err
	})
	if err != nil {
		return movers.Cost{}, err
	}
	err = m.await(ctx, func(ctx context.Context) (bool, error) { return m.settled(ctx, batch.Batch) })
	if err != nil {
		return movers.Cost{}, err
	}
	return meter.Stop()
}

// settled reports whether every upload of the batch has completed.
func (m *mediaferry) settled(ctx context.Context, id string) (bool, error) {
	batch, err := m.api.Batch(ctx, id)
	if err != nil {
		return false, fmt.Errorf("ask for the batch: %w", err)
	}
	if batch.Open > 0 {
		return false, nil
	}
	if done := batch.States["completed"].Uploads; done != batch.Uploads {
		return false, fmt.Errorf("%d of %d uploads completed: %+v", done, batch.Uploads, batch.States)
	}
	return true, nil
}

// Bounds of the latency figures: submissions one after the other, so that
// nothing waits for anything but its own steps.
const (
	latencyBucket  = "latency"
	latencyKey     = "two-parts"
	latencySize    = 20 << 20 // bytes: two parts at the S3 provider's 16 MiB
	latencySamples = 100
)

// Figures measures the waits of single uploads while nothing else is moved, and
// how fast acks reach the ledger.
func (m *mediaferry) Figures(ctx context.Context, sheet *figures.Sheet) error {
	if err := m.latencies(ctx, sheet); err != nil {
		return fmt.Errorf("latencies: %w", err)
	}
	run, err := recordAcks(ctx, m, ackFiles)
	if err != nil {
		return fmt.Errorf("acks: %w", err)
	}
	sheet.Set("acks_per_second", run.rate, "1/s")
	return nil
}

func (m *mediaferry) latencies(ctx context.Context, sheet *figures.Sheet) error {
	if err := putObject(ctx, m.source, latencyBucket, latencyKey, latencySize); err != nil {
		return err
	}
	var firstByte, finish []time.Duration
	for i := range latencySamples {
		name := fmt.Sprintf("latency-%03d", i)
		start := time.Now()
		u, _, err := m.api.Submit(ctx, client.Submission{
			Account: oursAccount, Name: name, Source: client.Source{Bucket: latencyBucket, Key: latencyKey},
		})
		if err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		if u, err = m.api.Wait(ctx, u.ID, nil); err != nil || u.State != "completed" {
			return errors.Join(err, fmt.Errorf("upload %s is %s: %+v", u.ID, u.State, u.Failure))
		}
		stats, err := m.sink.Stats(ctx)
		if err != nil {
			return fmt.Errorf("ask the sink: %w", err)
		}
		key := stats.Keys[dstBucket+"/"+name]
		firstByte = append(firstByte, key.FirstByte.Sub(start))
		finish = append(finish, key.Completed.Sub(key.LastByte))
	}
	sheet.SetPercentile("submit_to_first_byte_p50_ms", firstByte, 50)
	sheet.SetPercentile("submit_to_first_byte_p99_ms", firstByte, 99)
	sheet.SetPercentile("last_ack_to_finish_p50_ms", finish, 50)
	sheet.SetPercentile("last_ack_to_finish_p99_ms", finish, 99)
	return nil
}

// Close stops what Prepare started, in the reverse order.
func (m *mediaferry) Close() error {
	var errs []error
	if m.api != nil {
		m.api.Close()
	}
	errs = append(errs, m.stopProcesses())
	if m.postgres != nil {
		m.postgres.Stop()
	}
	if m.nats != nil {
		errs = append(errs, m.nats.stop())
	}
	if m.dir != nil {
		errs = append(errs, m.dir.Close())
	}
	return errors.Join(errs...)
}

// stopProcesses stops dispatcher and worker; the servers go on.
func (m *mediaferry) stopProcesses() error {
	var errs []error
	for _, cmd := range slices.Backward(m.children) {
		errs = append(errs, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	m.children = nil
	return errors.Join(errs...)
}

// putObject stores size random bytes in a bucket of the source.
func putObject(ctx context.Context, source *minio.Client, bucket, key string, size int64) error {
	exists, err := source.BucketExists(ctx, bucket)
	if err != nil {
		return fmt.Errorf("look for bucket %s: %w", bucket, err)
	}
	if !exists {
		if err := source.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
			return fmt.Errorf("make bucket %s: %w", bucket, err)
		}
	}
	body := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
	if _, err := source.PutObject(ctx, bucket, key, body, size, minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
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
