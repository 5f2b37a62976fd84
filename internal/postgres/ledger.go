package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

// RecordReports is the ledger transaction: all acks and failures of a batch of
// reports, in one commit. Repeated acks, stale epochs and parts that are not in
// the plan change nothing. It returns the uploads that got new acks; one whose
// last byte was among them comes back in state finishing, and no other call
// will return it so.
func (s *Store) RecordReports(ctx context.Context, reports []parts.Report) ([]parts.Landed, error) {
	if !slices.ContainsFunc(reports, func(r parts.Report) bool { return r.Failure != nil || len(r.Mended) > 0 }) {
		// One statement is a transaction of its own, without the round trips of one.
		landed, err := s.recordAcks(ctx, s.pool, reports, false)
		if err != nil {
			return nil, unavailable("record reports", err)
		}
		return landed, nil
	}
	var landed []parts.Landed
	err := s.inTx(ctx, "record reports", func(tx pgx.Tx) error {
		var err error
		if landed, err = s.recordAcks(ctx, tx, reports, false); err != nil {
			return err
		}
		return s.insertFailures(ctx, tx, reports)
	})
	return landed, err
}

func (s *Store) recordAcks(ctx context.Context, tx db.DBTX, reports []parts.Report, found bool) ([]parts.Landed, error) {
	var p db.RecordAcksParams
	for _, r := range reports {
		if len(r.Acks) > 0 {
			p.Touched = append(p.Touched, r.Upload) // more than once is once
		}
		for _, a := range r.Acks {
			p.UploadIds = append(p.UploadIds, r.Upload)
			p.Epochs = append(p.Epochs, int32(r.Epoch)) //nolint:gosec // counts sessions
			p.Parts = append(p.Parts, int32(a.Part))    //nolint:gosec // checked against the plan
			p.Offsets = append(p.Offsets, a.Offset)
			p.Lengths = append(p.Lengths, a.Length)
			p.Receipts = append(p.Receipts, clean(a.Receipt.Tag))
			p.Digests = append(p.Digests, a.Digest.String())
			p.ReadDigests = append(p.ReadDigests, a.Read.String())
			p.Confirmed = append(p.Confirmed, !a.Receipt.Unconfirmed)
			p.Workers = append(p.Workers, r.Worker)
			p.Deliveries = append(p.Deliveries, int32(r.Delivery)) //nolint:gosec // small
			p.Founds = append(p.Founds, found)
			p.StartedAts = append(p.StartedAts, a.Started)
			p.AckedAts = append(p.AckedAts, a.Finished)
		}
	}
	if len(p.Touched) == 0 {
		return nil, nil
	}
	rows, err := s.q.RecordAcks(ctx, tx, p)
	if err != nil {
		return nil, fmt.Errorf("record acks: %w", err)
	}
	landed := make([]parts.Landed, len(rows))
	for i, r := range rows {
		landed[i] = parts.Landed{
			Upload: r.ID, Account: r.Account, State: uploads.State(r.State), Parts: int(r.Parts), Bytes: r.Bytes,
		}
	}
	return landed, nil
}

func (s *Store) insertFailures(ctx context.Context, tx db.DBTX, reports []parts.Report) error {
	p := db.InsertFailuresParams{
		Call: string(providers.CallPut), Patience: windows.Patience,
		SilentKinds: []string{string(providers.Transient), string(providers.Throttled), string(providers.UnknownOutcome)},
	}
	add := func(r parts.Report, f parts.Failure) {
		p.UploadIds = append(p.UploadIds, r.Upload)
		p.Accounts = append(p.Accounts, r.Account)
		p.Epochs = append(p.Epochs, int32(r.Epoch)) //nolint:gosec // counts sessions
		p.Parts = append(p.Parts, int32(f.Part))    //nolint:gosec // within the plan
		p.Kinds = append(p.Kinds, clean(f.Kind))
		p.Codes = append(p.Codes, clean(f.Code))
		p.Messages = append(p.Messages, clean(f.Message))
		p.Stages = append(p.Stages, string(f.Stage))
		p.Workers = append(p.Workers, r.Worker)
		p.Deliveries = append(p.Deliveries, int32(r.Delivery)) //nolint:gosec // small
		p.StartedAts = append(p.StartedAts, f.Started)
		p.FailedAts = append(p.FailedAts, f.Failed)
	}
	for _, r := range reports {
		for _, f := range r.Mended {
			add(r, f)
		}
		if r.Failure != nil {
			add(r, *r.Failure)
		}
	}
	if len(p.UploadIds) == 0 {
		return nil
	}
	if err := s.q.InsertFailures(ctx, tx, p); err != nil {
		return fmt.Errorf("insert failures: %w", err)
	}
	return nil
}

// Failures counts the failed tries of a part in an epoch, without those while
// the platform was down; part 0 is what is not about a part.
func (s *Store) Failures(ctx context.Context, id uploads.ID, epoch, part int) (int, error) {
	n, err := s.q.CountFailures(ctx, s.pool, id, int32(epoch), int32(part)) //nolint:gosec // within the plan
	if err != nil {
		return 0, unavailable("count failures", err)
	}
	return int(n), nil
}

// FailedSteps counts the failed control steps of an upload in an epoch that were
// of a kind.
func (s *Store) FailedSteps(ctx context.Context, id uploads.ID, epoch int, kind string) (int, error) {
	n, err := s.q.CountSteps(ctx, s.pool, id, int32(epoch), kind) //nolint:gosec // counts sessions
	if err != nil {
		return 0, unavailable("count failures", err)
	}
	return int(n), nil
}

// HoldFeeding keeps the sweep from feeding an upload again before delay is over.
func (s *Store) HoldFeeding(ctx context.Context, id uploads.ID, epoch int, delay time.Duration) error {
	if err := s.q.HoldFeeding(ctx, s.pool, delay, id, int32(epoch)); err != nil { //nolint:gosec // counts sessions
		return unavailable("hold feeding", err)
	}
	return nil
}

// Receipts returns, for each upload, the parts of its current epoch in order.
func (s *Store) Receipts(ctx context.Context, ids []uploads.ID) (map[uploads.ID][]parts.Stored, error) {
	rows, err := s.q.Receipts(ctx, s.pool, ids)
	if err != nil {
		return nil, unavailable("read receipts", err)
	}
	out := make(map[uploads.ID][]parts.Stored, len(ids))
	for _, r := range rows {
		var digest, read hashing.Digest
		if err := errors.Join(digest.UnmarshalText([]byte(r.Digest)), read.UnmarshalText([]byte(r.ReadDigest))); err != nil {
			return nil, fmt.Errorf("digest of part %d of %s: %w", r.Part, r.UploadID, err)
		}
		out[r.UploadID] = append(out[r.UploadID], parts.Stored{
			Part:    parts.Part{Number: int(r.Part), Offset: r.Offset, Length: r.Length},
			Receipt: parts.Receipt{Tag: r.Receipt}, Digest: digest, Read: read,
		})
	}
	return out, nil
}

// AckedParts returns which of the parts from first to last the ledger has.
func (s *Store) AckedParts(ctx context.Context, id uploads.ID, epoch, first, last int) ([]int, error) {
	return s.ackedParts(ctx, s.pool, id, epoch, first, last)
}

func (s *Store) ackedParts(ctx context.Context, tx db.DBTX, id uploads.ID, epoch, first, last int) ([]int, error) {
	raw, err := s.q.AckedParts(ctx, tx, db.AckedPartsParams{
		UploadID: id, Epoch: int32(epoch), FirstPart: int32(first), LastPart: int32(last), //nolint:gosec // within the plan
	})
	if err != nil {
		return nil, unavailable("read acked parts", err)
	}
	out := make([]int, len(raw))
	for i, n := range raw {
		out[i] = int(n)
	}
	return out, nil
}

// Feed runs one pass over an account. decide is shown up to most uploads, most
// urgent first, and says what is taken from each; what it returns is committed,
// and the uploads for which it took are returned. Calls that it takes of the
// account's rate are spent only then. While another feeder has the account, Feed
// waits: what that one did not see, this one does.
func (s *Store) Feed(ctx context.Context, account string, most int, grace time.Duration,
	decide func(pass parts.FeedPass) ([]parts.Fed, error),
) (took map[uploads.ID]bool, err error) {
	err = s.inTx(ctx, "feed "+account, func(tx pgx.Tx) error {
		if err := s.q.TakeFeedLock(ctx, tx, account); err != nil {
			return fmt.Errorf("take the account's lock: %w", err)
		}
		pass := parts.FeedPass{
			Acked: func(ctx context.Context, f parts.Feedable, first, last int) ([]int, error) {
				return s.ackedParts(ctx, tx, f.Upload, f.Epoch, first, last)
			},
			TakeCalls: func(ctx context.Context, calls, count int, per time.Duration) (time.Duration, error) {
				return s.takeCalls(ctx, tx, account, providers.CallPut, calls, providers.Rate{Count: count, Per: per})
			},
		}
		room, err := s.q.InFlight(ctx, tx, account)
		if err != nil {
			return fmt.Errorf("read bytes in flight: %w", err)
		}
		pass.InFlight, pass.Window = room.InFlight, room.WindowBytes
		rows, err := s.q.Feedable(ctx, tx, account, int32(most)) //nolint:gosec // a small constant
		if err != nil {
			return fmt.Errorf("read feedable uploads: %w", err)
		}
		for _, r := range rows {
			plan := parts.Plan{Size: r.Size, PartSize: value(r.PartSize)}
			pass.Next = append(pass.Next, parts.Feedable{
				Upload: r.ID, Account: account, Pool: r.Pool, Epoch: int(r.Epoch), Plan: plan,
				// More bytes are fed or found than the parts up to Fed have.
				Fed: int(r.Fed), AckedAhead: r.FedBytes+r.FoundBytes > min(int64(r.Fed)*plan.PartSize, plan.Size),
				Acked: int(r.AckedParts), FeedCount: r.FeedCount,
			})
		}
		fed, err := decide(pass)
		if err != nil || len(fed) == 0 {
			return err
		}
		p := db.RecordFedParams{Grace: grace}
		for _, f := range inIDOrder(fed, func(f parts.Fed) uploads.ID { return f.Upload }) {
			p.Ids = append(p.Ids, f.Upload)
			p.Epochs = append(p.Epochs, int32(f.Epoch))           //nolint:gosec // counts sessions
			p.FedBefore = append(p.FedBefore, int32(f.FedBefore)) //nolint:gosec // within the plan
			p.Feds = append(p.Feds, int32(f.Fed))                 //nolint:gosec // within the plan
			p.Bytes = append(p.Bytes, f.Bytes)
			p.LedgerReads = append(p.LedgerReads, f.LedgerRead)
			p.AckedBefore = append(p.AckedBefore, int32(f.AckedBefore)) //nolint:gosec // within the plan
		}
		ids, err := s.q.RecordFed(ctx, tx, p)
		if err != nil {
			return fmt.Errorf("record fed: %w", err)
		}
		took = make(map[uploads.ID]bool, len(ids))
		for _, id := range ids {
			took[id] = true
		}
		return nil
	})
	return took, err
}

// Sweepable lists uploads with bytes in flight that were not fed for a while,
// or all with bytes in flight; none of an account whose parts are held.
func (s *Store) Sweepable(ctx context.Context, everything bool, most int) ([]parts.Feedable, error) {
	rows, err := s.q.Sweepable(ctx, s.pool, everything, string(providers.CallPut), int32(most)) //nolint:gosec // a small constant
	if err != nil {
		return nil, unavailable("list uploads to sweep", err)
	}
	out := make([]parts.Feedable, len(rows))
	for i, r := range rows {
		out[i] = parts.Feedable{
			Upload: r.ID, Account: r.Account, Pool: r.Pool, Epoch: int(r.Epoch),
			Plan: parts.Plan{Size: r.Size, PartSize: value(r.PartSize)}, Fed: int(r.Fed), FeedCount: r.FeedCount, Recent: r.Recent,
		}
	}
	return out, nil
}

// RecordSwept claims the feeding again of an upload's lost runs; it reports
// false if the upload was fed or swept by someone else since f was read. One that
// is Recent keeps its count: its runs are published by the ids of the last feed.
func (s *Store) RecordSwept(ctx context.Context, f parts.Feedable, grace time.Duration) (bool, error) {
	n, err := s.q.RecordSwept(ctx, s.pool, db.RecordSweptParams{
		Grace: grace, Same: f.Recent, ID: f.Upload, Epoch: int32(f.Epoch), FeedCount: f.FeedCount, //nolint:gosec // counts sessions
	})
	if err != nil {
		return false, unavailable("record sweep", err)
	}
	return n == 1, nil
}

// StreamMark returns how the stream looked when it was last seen, a mark
// without a creation time if it never was.
func (s *Store) StreamMark(ctx context.Context, stream string) (parts.StreamMark, error) {
	r, err := s.q.StreamMark(ctx, s.pool, stream)
	if errors.Is(err, pgx.ErrNoRows) {
		return parts.StreamMark{Stream: stream}, nil
	}
	if err != nil {
		return parts.StreamMark{}, unavailable("read stream mark", err)
	}
	return parts.StreamMark{Stream: stream, Created: r.Created.UTC(), LastSeq: uint64(r.LastSeq)}, nil //nolint:gosec // written by SetStreamMark
}

// SetStreamMark keeps what a stream looks like now.
func (s *Store) SetStreamMark(ctx context.Context, m parts.StreamMark) error {
	if err := s.q.SetStreamMark(ctx, s.pool, m.Stream, m.Created, int64(m.LastSeq)); err != nil { //nolint:gosec // counts messages
		return unavailable("set stream mark", err)
	}
	return nil
}

// MakePartitions makes the ledger's partitions for the month of from and the
// months after it. It may be called by several processes at once. Where a
// transaction of somebody is in the way, such as that of a backup, it gives up after
// a moment, with a *uploads.UnavailableError: acknowledgements wait behind it, and
// those of a month that is not made yet go to the default partition.
func (s *Store) MakePartitions(ctx context.Context, from time.Time, months int) error {
	first := time.Date(from.UTC().Year(), from.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	return s.inTx(ctx, "make partitions", func(tx pgx.Tx) error {
		// One maker at a time, without which two would make the same.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('part_acks partitions', 0)), set_config('lock_timeout', $1, true)`, partitionWait); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		for m := range months {
			start, end := first.AddDate(0, m, 0), first.AddDate(0, m+1, 0)
			// In the owner's name: the role that dispatchers run as may own nothing.
			if _, err := tx.Exec(ctx, `SELECT make_part_acks_partition($1, $2, $3)`,
				"part_acks_"+start.Format("200601"), lowestID(start), lowestID(end)); err != nil {
				return fmt.Errorf("partition of %s: %w", start.Format("2006-01"), err)
			}
		}
		return nil
	})
}

const partitionWait = "1s"

// CatchUpNumbers has rows numbered from behind the last on, where the sequences
// that number them are behind, as after a copy of the record by logical
// replication. It may be repeated.
func (s *Store) CatchUpNumbers(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `SELECT catch_up_numbers()`); err != nil {
		return unavailable("catch up with the numbers of rows", err)
	}
	return nil
}

// lowestID returns the lower bound of UUIDv7s made at t: its milliseconds in
// the first 48 bits (RFC 9562, section 5.7), zeros in the rest.
func lowestID(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) //nolint:gosec // the lowest eight bits are meant
	}
	return id
}
