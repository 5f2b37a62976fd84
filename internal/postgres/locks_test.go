package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Statements that change many uploads take them in the order of their ids, in
// whatever order they are given: while the first is somebody else's, the last is
// still free. Otherwise two of them can wait for each other.
func TestUploadsAreTakenInOrder(t *testing.T) {
	t.Parallel()
	const many = 20
	tests := []struct {
		name      string
		finishing bool
		do        func(b *bundle, ctx context.Context, steps []uploads.Step) error
	}{
		{"opened", false, func(b *bundle, ctx context.Context, steps []uploads.Step) error {
			var opened []parts.Opened
			for _, s := range steps {
				opened = append(opened, parts.Opened{Upload: s.ID, Lease: s.Lease, Epoch: 1, Plan: parts.Plan{Size: 10, PartSize: 10}, Session: []byte("sealed")})
			}
			_, err := b.RecordOpened(ctx, opened)
			return err
		}},
		{"finished", true, func(b *bundle, ctx context.Context, steps []uploads.Step) error {
			var finished []parts.Finished
			for _, s := range steps {
				finished = append(finished, parts.Finished{Upload: s.ID, Lease: s.Lease, Asset: uploads.Asset{ID: "asset"}})
			}
			_, err := b.RecordFinished(ctx, finished)
			return err
		}},
		{"leases", false, func(b *bundle, ctx context.Context, steps []uploads.Step) error {
			held := map[uploads.ID]uploads.Lease{}
			for _, s := range steps {
				held[s.ID] = s.Lease
			}
			_, err := b.RenewLeases(ctx, held, time.Minute)
			return err
		}},
		{"fed", true, func(b *bundle, ctx context.Context, steps []uploads.Step) error {
			_, err := b.Feed(ctx, "acc", many, time.Minute, func(parts.FeedPass) ([]parts.Fed, error) {
				var fed []parts.Fed
				for _, s := range steps {
					fed = append(fed, parts.Fed{Upload: s.ID, Epoch: 1, Fed: 1, Bytes: 10})
				}
				return fed, nil
			})
			return err
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			plan := parts.Plan{Size: 10, PartSize: 10}
			for i := range many {
				b.submit(t, fmt.Sprintf("film-%d.mp4", i), plan.Size)
			}
			steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, many, time.Minute)
			if err != nil || len(steps) != many {
				t.Fatalf("ClaimQueued = %d steps, %v", len(steps), err)
			}
			if tc.finishing {
				var reports []parts.Report
				for _, s := range steps {
					b.record(t, s, plan.PartSize)
					reports = append(reports, report(s.ID, 1, plan, 1))
				}
				if tc.name == "finished" {
					if _, err := b.RecordReports(t.Context(), reports); err != nil {
						t.Fatal(err)
					}
					if steps, err = b.ClaimSteps(t.Context(), many, nil, time.Minute); err != nil || len(steps) != many {
						t.Fatalf("ClaimSteps = %d steps, %v", len(steps), err)
					}
				}
			}
			slices.SortFunc(steps, func(x, y uploads.Step) int { return slices.Compare(y.ID[:], x.ID[:]) }) // last first
			conn, err := pgx.Connect(t.Context(), b.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context()) //nolint:errcheck // nothing is pending on it
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `SELECT FROM uploads WHERE id = $1 FOR UPDATE`, steps[many-1].ID); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- tc.do(b, t.Context(), steps) }()
			for waits := "0"; waits == "0"; {
				waits = b.query(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)[0]
			}
			if _, err := tx.Exec(t.Context(), `SELECT FROM uploads WHERE id = $1 FOR UPDATE NOWAIT`, steps[0].ID); err != nil {
				t.Errorf("the last upload is taken before the first: %v", err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
