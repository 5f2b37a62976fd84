package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"mediaferry/bench/movers"
	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/service"
	"mediaferry/internal/uploads"
)

const (
	ackKey   = "small-parts"
	ackSize  = 64 << 20 // bytes
	ackPart  = 1 << 10  // bytes
	ackFiles = 4
)

// discard is a platform that reads what it is sent and keeps nothing, with
// parts so small that the way of an ack is all that is left to measure.
type discard struct{}

var _ providers.Provider = discard{}

func (discard) Limits() providers.Limits {
	return providers.Limits{
		Limits:     parts.Limits{MinPart: 1, MaxPart: ackPart, Preferred: ackPart},
		PartDigest: hashing.CRC64NVME,
	}
}

func (discard) Begin(context.Context, providers.Account, providers.Media) (providers.Begun, error) {
	return providers.Begun{Session: providers.Session{Data: []byte("{}")}}, nil
}

func (discard) PutPart(_ context.Context, _ providers.Session, _ parts.Part, body providers.Body) (parts.Receipt, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return parts.Receipt{}, &providers.Error{Kind: providers.Transient, Call: "discard", Err: err}
	}
	return parts.Receipt{}, nil
}

func (discard) Finish(context.Context, providers.Session, []parts.Stored) (uploads.Asset, error) {
	return uploads.Asset{ID: "discarded"}, nil
}

func (discard) Probe(context.Context, providers.Account, providers.Media, providers.Session) (providers.Outcome, error) {
	return providers.Outcome{Holding: providers.HoldsSession}, nil
}

func (discard) Abort(context.Context, providers.Session) error { return nil }

// ackRun is what it took to record parts.
type ackRun struct {
	recorded int     // parts
	rate     float64 // parts a second
	cpu      float64 // microseconds for each, in dispatcher, worker, NATS and Postgres
}

// recordAcks has the parts of so many files recorded in the ledger: from the
// worker through the ACKS stream into Postgres.
func recordAcks(ctx context.Context, m *mediaferry, files int) (run ackRun, err error) {
	err = withDiscard(ctx, m, func(ctx context.Context, api *client.Client) error {
		meter, err := startAckMeter(m)
		if err != nil {
			return err
		}
		recorded, took, err := measureAcks(ctx, api, files)
		if err != nil {
			return err
		}
		cpu, err := meter.stop()
		if err != nil {
			return err
		}
		run = ackRun{recorded: recorded, rate: float64(recorded) / took.Seconds(), cpu: float64(cpu.Microseconds()) / float64(recorded)}
		return nil
	})
	return run, err
}

// withDiscard has a dispatcher and a worker with the discarding platform run in
// this process, on the servers of ours, for as long as work takes.
func withDiscard(ctx context.Context, m *mediaferry, work func(context.Context, *client.Client) error) error {
	if err := putObject(ctx, m.source, latencyBucket, ackKey, ackSize); err != nil {
		return err
	}
	staging := config.Staging{
		Endpoint: m.env.Source, Region: "us-east-1", AccessKey: m.env.AccessKey,
		SecretKey: providers.Secret(m.env.SecretKey), PathStyle: true,
	}
	natsURL := "nats://" + strings.TrimPrefix(m.nats.url, "http://")
	known := map[string]providers.Provider{"discard": discard{}}
	// The other dispatcher would answer for uploads of an account that it does
	// not have, so it is stopped first.
	if err := m.stopProcesses(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan string, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return service.RunDispatcher(ctx, config.Dispatcher{
			NATS: config.NATS{URL: natsURL}, Staging: staging, SealKey: providers.Secret(sealing.NewKey()),
			Postgres: config.Postgres{DSN: providers.Secret(m.postgres.DSN()), MaxConns: 16},
			API:      config.API{Listen: "127.0.0.1:0", Auth: config.AuthNone}, SweepInterval: 2 * time.Second, StopGrace: time.Second,
			Accounts: []config.Account{{Name: "discard", Tenant: "default", Provider: "discard", Pool: "discard", Window: 256 << 20}},
		}, known, zap.NewNop(), func(addr string) { ready <- addr })
	})
	g.Go(func() error {
		return service.RunWorker(ctx, config.Worker{
			ID: "discard", Pool: "discard", Slots: oursSlots, NATS: config.NATS{URL: natsURL}, Staging: staging, StopGrace: time.Second,
		}, known, zap.NewNop())
	})
	g.Go(func() error {
		defer cancel() // done: the processes end
		select {
		case <-ctx.Done():
			return nil
		case addr := <-ready:
			api, err := client.New("http://"+addr, "default")
			if err != nil {
				return fmt.Errorf("client: %w", err)
			}
			defer api.Close()
			return work(ctx, api)
		}
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// ackMeter measures the CPU time of all that an ack passes: dispatcher and worker,
// which run in this process, NATS and Postgres.
type ackMeter struct {
	others *movers.Meter
	own    time.Duration
}

func startAckMeter(m *mediaferry) (ackMeter, error) {
	others, err := movers.StartMeter(map[string]int{movers.RoleNATS: m.nats.cmd.Process.Pid, movers.RolePostgres: m.postgres.PID()})
	if err != nil {
		return ackMeter{}, fmt.Errorf("measure: %w", err)
	}
	return ackMeter{others, ownCPU()}, nil
}

func (a ackMeter) stop() (time.Duration, error) {
	own := ownCPU() - a.own
	cost, err := a.others.Stop()
	if err != nil {
		return 0, fmt.Errorf("measure: %w", err)
	}
	return own + cost.CPU[movers.RoleNATS] + cost.CPU[movers.RolePostgres], nil
}

// ownCPU is the CPU time of this process so far.
func ownCPU() time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// submitAcks submits so many parts to record, and returns the upload's id.
func submitAcks(ctx context.Context, api *client.Client) (string, error) {
	u, _, err := api.Submit(ctx, client.Submission{Account: "discard", Name: ackKey, Source: client.Source{Bucket: latencyBucket, Key: ackKey}})
	if err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	return u.ID, nil
}

// awaitAcks returns the upload once all its parts are recorded.
func awaitAcks(ctx context.Context, api *client.Client, id string) (client.Upload, error) {
	u, err := api.Wait(ctx, id, nil)
	if err != nil {
		return u, fmt.Errorf("wait: %w", err)
	}
	if u.State != string(uploads.Completed) {
		return u, fmt.Errorf("upload %s is %s: %+v", id, u.State, u.Failure)
	}
	return u, nil
}

// measureAcks returns how many parts were recorded, and from the first session to
// the last ack how long it took.
func measureAcks(ctx context.Context, api *client.Client, files int) (recorded int, took time.Duration, err error) {
	var ids []string
	for range files {
		id, err := submitAcks(ctx, api)
		if err != nil {
			return 0, 0, err
		}
		ids = append(ids, id)
	}
	var first, last time.Time
	for _, id := range ids {
		u, err := awaitAcks(ctx, api, id)
		if err != nil {
			return 0, 0, err
		}
		recorded += u.AckedParts
		if first.IsZero() || u.BegunAt.Before(first) {
			first = u.BegunAt
		}
		if u.LastAckAt.After(last) {
			last = u.LastAckAt
		}
	}
	return recorded, last.Sub(first), nil
}
