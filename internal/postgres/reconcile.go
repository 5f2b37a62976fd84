package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/parts"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// Tick counts the record up and returns what it came to: durable on return, and
// no other call returns the same. It reports false, and does nothing, if the
// record is behind what was seen of it.
func (s *Store) Tick(ctx context.Context, seen int64) (parts.RecordMark, bool, error) {
	r, err := s.q.Tick(ctx, s.pool, seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return parts.RecordMark{}, false, nil
	}
	if err != nil {
		return parts.RecordMark{}, false, unavailable("count the record up", err)
	}
	return parts.RecordMark{Record: r.Record, Tick: r.Tick}, true, nil
}

// RecordMark returns how far the record was counted up.
func (s *Store) RecordMark(ctx context.Context) (parts.RecordMark, error) {
	r, err := s.q.RecordMark(ctx, s.pool)
	if err != nil {
		return parts.RecordMark{}, unavailable("read the record's mark", err)
	}
	return parts.RecordMark{Record: r.Record, Tick: r.Tick}, nil
}

// Doubt says that the record has gone back in time, from seen: every upload on
// which work is due is to be probed before anything else happens to it, steps in
// hand lose their leases, and the mark catches up. It returns how many uploads
// there are; took is false if another process was first.
func (s *Store) Doubt(ctx context.Context, seen int64) (doubted int, took bool, err error) {
	err = s.inTx(ctx, "doubt the record", func(tx pgx.Tx) error {
		n, err := s.q.CatchUp(ctx, tx, seen)
		if err != nil || n == 0 {
			return err
		}
		took = true
		if err := s.q.SkipEventNumbers(ctx, tx); err != nil {
			return fmt.Errorf("skip event numbers: %w", err)
		}
		n, err = s.q.DoubtAll(ctx, tx)
		doubted = int(n)
		return err
	})
	return doubted, took, err
}

// ClaimProbes claims up to most uploads of which a probe is due, of the
// accounts, or of all if accounts is nil. Step.Intent is since when it has been.
func (s *Store) ClaimProbes(ctx context.Context, most int, accounts []string, lease time.Duration) ([]uploads.Step, error) {
	token, asked := uuid.New(), time.Now()
	rows, err := s.q.ClaimProbes(ctx, s.pool, db.ClaimProbesParams{
		LeaseToken: &token, Lease: lease, Most: int32(most), Accounts: accounts, //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("claim probes", err)
	}
	return toSteps(rows, token, asked)
}

// ClaimProbe claims one upload of a tenant, and makes a probe of it due unless it
// is only to be looked at. It reports false if nothing is due for the upload any
// more, or another step of it is in hand.
func (s *Store) ClaimProbe(ctx context.Context, tenant string, id uploads.ID, look bool, lease time.Duration) (uploads.Step, bool, error) {
	token, asked := uuid.New(), time.Now()
	r, err := s.q.ClaimProbe(ctx, s.pool, db.ClaimProbeParams{LeaseToken: &token, Lease: lease, Look: look, ID: id, Tenant: tenant})
	if errors.Is(err, pgx.ErrNoRows) {
		return uploads.Step{}, false, nil
	}
	if err != nil {
		return uploads.Step{}, false, unavailable("claim a probe", err)
	}
	step, err := toStep(db.ClaimStepsRow(r), token, asked)
	return step, err == nil, err
}

// HeldSteps returns which of the finishing steps are still held under their
// leases, and not in doubt.
func (s *Store) HeldSteps(ctx context.Context, steps []uploads.Step) (map[uploads.ID]bool, error) {
	var ids, tokens []uuid.UUID
	for _, step := range steps {
		ids, tokens = append(ids, step.ID), append(tokens, step.Lease)
	}
	held, err := s.q.HeldSteps(ctx, s.pool, ids, tokens)
	if err != nil {
		return nil, unavailable("look at leases", err)
	}
	out := make(map[uploads.ID]bool, len(held))
	for _, id := range held {
		out[id] = true
	}
	return out, nil
}

// RecordProbedAsset moves an upload to completed, from whatever state the record
// has it in. It reports whether the lease was still the step's.
func (s *Store) RecordProbedAsset(ctx context.Context, step uploads.Step, asset uploads.Asset, reason string) (bool, error) {
	raw, err := json.Marshal(cleanAsset(asset))
	if err != nil {
		return false, fmt.Errorf("encode asset of %s: %w", step.ID, err)
	}
	n, err := s.q.RecordProbedAsset(ctx, s.pool, db.RecordProbedAssetParams{
		Reason: reason, Asset: raw, ID: step.ID, LeaseToken: &step.Lease,
	})
	if err != nil {
		return false, unavailable("record a probed asset", err)
	}
	return n == 1, nil
}

// RecordProbed enters parts that the platform holds into the ledger, in the
// present epoch, and lets the upload go on: no probe is due any more, and all
// that the ledger lacks is fed again. It reports whether the lease was still the
// step's.
func (s *Store) RecordProbed(ctx context.Context, step uploads.Step, adopt []parts.Stored) (bool, error) {
	took := false
	err := s.inTx(ctx, "record a probe", func(tx pgx.Tx) error {
		if len(adopt) > 0 {
			if _, err := s.recordAcks(ctx, tx, []parts.Report{foundReport(step.ID, step.Epoch, adopt)}, true); err != nil {
				return err
			}
		}
		n, err := s.q.RecordProbed(ctx, tx, step.ID, int32(step.Epoch), &step.Lease) //nolint:gosec // counts sessions
		if err == nil && n == 0 {
			return errLeasePassed // takes the parts back too
		}
		took = err == nil
		return err
	})
	if errors.Is(err, errLeasePassed) {
		return false, nil
	}
	return took, err
}

var errLeasePassed = errors.New("the lease has passed to someone else")

// foundReport is the report that nobody sent: of parts that were found upstream.
func foundReport(id uploads.ID, epoch int, found []parts.Stored) parts.Report {
	now := time.Now()
	r := parts.Report{Upload: id, Epoch: epoch}
	for _, st := range found {
		r.Acks = append(r.Acks, parts.Ack{
			Part: st.Number, Offset: st.Offset, Length: st.Length, Receipt: st.Receipt, Digest: st.Digest, Started: now, Finished: now,
		})
	}
	return r
}
