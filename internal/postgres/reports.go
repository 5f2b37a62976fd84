package postgres

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// The ready questions. Each file begins with its question as a comment; since
// is a variable of psql.
//
//go:embed reports/*.sql
var reportFiles embed.FS

const sinceVariable = ":'since'"

const (
	reportTimeout = 30 * time.Second
	maxReports    = 2 // at once, so that they leave connections to the ledger
)

// Bounds of one transaction of a fold.
const (
	foldEpochs = 64
	foldParts  = 512 // of each epoch
	foldBatch  = 500 // uploads
	// foldWorth is how many parts of an epoch that goes on are worth a fold.
	// Reports read from the ledger what is not folded yet.
	foldWorth = 256
)

// FoldLedger adds to the roll-ups what the ledger has and they lack, but for a
// few hundred parts of each upload in hand, and the uploads that are final. It says
// how many parts it added. Each transaction is whole by itself: after a crash the
// next call goes on. While another process folds, it adds nothing. After each
// transaction it rests so many times as long as that took, so that those who
// write to the ledger hardly notice.
func (s *Store) FoldLedger(ctx context.Context, rest int) (int, error) {
	total := 0
	for {
		folded, more, err := s.foldPass(ctx, rest)
		total += folded
		if err != nil {
			return total, err
		}
		if !more {
			return total, s.foldUploads(ctx, rest)
		}
	}
}

// inTxAndRest runs a transaction and waits rest times as long as it took.
func (s *Store) inTxAndRest(ctx context.Context, rest int, doing string, f func(pgx.Tx) error) error {
	start := time.Now()
	if err := s.inTx(ctx, doing, f); err != nil || rest == 0 {
		return err
	}
	timer := time.NewTimer(time.Duration(rest) * time.Since(start))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}

// foldUploads adds uploads that are final, in batches.
func (s *Store) foldUploads(ctx context.Context, rest int) error {
	for done := false; !done; {
		err := s.inTxAndRest(ctx, rest, "fold uploads", func(tx pgx.Tx) error {
			took, err := s.q.TakeRollUps(ctx, tx)
			if err != nil || !took {
				done = true
				return err
			}
			ids, err := s.q.EndedUploads(ctx, tx, foldBatch)
			if err != nil {
				return fmt.Errorf("list: %w", err)
			}
			if done = len(ids) < foldBatch; len(ids) == 0 {
				return nil
			}
			if err := s.rollUp(ctx, tx, ids, s.q.RollUpUploads, s.q.RollUpDurations); err != nil {
				return err
			}
			return s.q.MarkFolded(ctx, tx, ids)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rollUp adds what the roll-ups lack of these uploads.
func (s *Store) rollUp(ctx context.Context, tx pgx.Tx, ids []uuid.UUID, statements ...func(context.Context, db.DBTX, []uuid.UUID) error) error {
	for _, add := range statements {
		if err := add(ctx, tx, ids); err != nil {
			return fmt.Errorf("roll up: %w", err)
		}
	}
	return nil
}

// foldPass goes once over all epochs that are due; more says that one of them
// had more parts than fit a transaction.
func (s *Store) foldPass(ctx context.Context, rest int) (folded int, more bool, err error) {
	p := db.FoldPartsParams{MostParts: foldParts, MostEpochs: foldEpochs, Worth: foldWorth}
	for done := false; !done; {
		err := s.inTxAndRest(ctx, rest, "fold the ledger", func(tx pgx.Tx) error {
			took, err := s.q.TakeRollUps(ctx, tx)
			if err != nil || !took {
				done = true
				return err
			}
			rows, err := s.q.FoldParts(ctx, tx, p)
			if err != nil {
				return fmt.Errorf("parts: %w", err)
			}
			for _, r := range rows {
				folded += int(r.Parts)
				more = more || r.Parts == foldParts
				if c := bytes.Compare(r.UploadID[:], p.AfterUpload[:]); c > 0 || c == 0 && r.Epoch > p.AfterEpoch {
					p.AfterUpload, p.AfterEpoch = r.UploadID, r.Epoch
				}
			}
			if len(rows) < foldEpochs {
				done = true
				return s.q.FoldCalls(ctx, tx)
			}
			return nil
		})
		if err != nil {
			return folded, false, err
		}
	}
	return folded, more, nil
}

// Reports lists the ready questions by name.
func (s *Store) Reports(context.Context) ([]uploads.Report, error) { return reports() }

func reports() ([]uploads.Report, error) {
	names, err := fs.Glob(reportFiles, "reports/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	out := make([]uploads.Report, len(names))
	for i, name := range names {
		text, err := reportFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read report: %w", err)
		}
		question, statement, _ := strings.Cut(string(text), "\n")
		out[i] = uploads.Report{
			Name: strings.TrimSuffix(path.Base(name), ".sql"), Question: strings.TrimPrefix(question, "-- "),
			SQL: strings.TrimSpace(statement),
		}
	}
	return out, nil
}

// Report answers a ready question about the time from since on, and changes
// nothing. It fails with uploads.ErrNoReport.
func (s *Store) Report(ctx context.Context, name string, since time.Time) (uploads.ReportRows, error) {
	all, err := reports()
	if err != nil {
		return uploads.ReportRows{}, err
	}
	for _, r := range all {
		if r.Name == name {
			return s.runReport(ctx, r, since)
		}
	}
	return uploads.ReportRows{}, uploads.ErrNoReport
}

func (s *Store) runReport(ctx context.Context, r uploads.Report, since time.Time) (out uploads.ReportRows, err error) {
	select {
	case s.reporting <- struct{}{}:
		defer func() { <-s.reporting }()
	case <-ctx.Done():
		return out, fmt.Errorf("report %s: wait for others: %w", r.Name, context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The pool's settings are for look-ups by index; these are scans.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL plan_cache_mode = force_custom_plan;
			SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL timezone = 'UTC'`); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
		rows, err := tx.Query(ctx, strings.ReplaceAll(r.SQL, sinceVariable, "$1"), pgx.QueryExecModeDescribeExec, since)
		if err != nil {
			return fmt.Errorf("run: %w", err)
		}
		for _, f := range rows.FieldDescriptions() {
			out.Columns = append(out.Columns, f.Name)
		}
		out.Rows, err = pgx.CollectRows(rows, reportRow)
		if err != nil {
			return fmt.Errorf("rows: %w", err)
		}
		return nil
	})
	if err != nil {
		return out, unavailable("report "+r.Name, err)
	}
	return out, nil
}

func reportRow(row pgx.CollectableRow) ([]any, error) {
	values, err := row.Values()
	for i, v := range values {
		if n, ok := v.(int32); ok {
			values[i] = int64(n)
		}
	}
	return values, err //nolint:wrapcheck // by runReport
}

const pruneBatch = 500 // uploads in one transaction

// Prune drops the months of the ledger whose uploads have all ended before
// cutoff, and deletes these uploads and all that is kept of them; reports have
// them from the roll-ups. A month with an upload on which work is due is kept,
// and so is one with a failed upload, which may be retried, unless withFailed
// says that those may go too. It needs the rights of the tables' owner. It may be
// repeated, and goes on where it was cut short. dryRun changes nothing.
func (s *Store) Prune(ctx context.Context, cutoff time.Time, withFailed, dryRun bool, pruned func(uploads.Pruned)) error {
	if !dryRun {
		if _, err := s.FoldLedger(ctx, 0); err != nil {
			return err
		}
	}
	rows, err := s.pool.Query(ctx, `
		SELECT right(c.relname, 6), pg_total_relation_size(c.oid)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'part_acks'::regclass AND c.relname ~ '^part_acks_[0-9]{6}$'
		ORDER BY c.relname`)
	if err != nil {
		return unavailable("list the ledger's months", err)
	}
	months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p uploads.Pruned, err error) {
		err = row.Scan(&p.Month, &p.Bytes)
		return p, err //nolint:wrapcheck // it is below
	})
	if err != nil {
		return unavailable("list the ledger's months", err)
	}
	for _, m := range months {
		start, err := time.Parse("200601", m.Month)
		if err != nil {
			return fmt.Errorf("partition part_acks_%s: %w", m.Month, err)
		}
		end := start.AddDate(0, 1, 0)
		if end.After(cutoff) {
			break // it is not over, and neither are those after it
		}
		if err := s.pruneMonth(ctx, &m, lowestID(start), lowestID(end), cutoff, withFailed, dryRun); err != nil {
			return err
		}
		pruned(m)
	}
	return nil
}

func (s *Store) pruneMonth(ctx context.Context, m *uploads.Pruned, low, high uuid.UUID, cutoff time.Time, withFailed, dryRun bool) error {
	found, err := s.q.MonthUploads(ctx, s.pool, cutoff, low, high)
	if err != nil {
		return unavailable("look at month "+m.Month, err)
	}
	m.Uploads = int(found.Uploads)
	switch {
	case found.Unfinished > 0:
		m.Kept = fmt.Sprintf("work is due on %d uploads, such as %s", found.Unfinished, found.Example)
	case found.Failed > 0 && !withFailed:
		m.Kept = fmt.Sprintf("%d uploads have failed and may be retried, such as %s", found.Failed, found.Example)
	case found.Late > 0:
		m.Kept = fmt.Sprintf("%d uploads have ended too lately, such as %s", found.Late, found.Example)
	}
	if dryRun || m.Kept != "" {
		return nil
	}
	for {
		deleted, left, err := s.pruneBatch(ctx, low, high, cutoff, withFailed)
		switch {
		case err != nil:
			return err
		case left:
			m.Kept = "an upload was retried meanwhile, or the roll-ups lack some of it; prune again"
			return nil
		case deleted < pruneBatch:
			return s.dropMonth(ctx, m.Month)
		}
	}
}

// pruneBatch moves a batch of a month's uploads into the roll-ups. left says that
// some of them must stay.
func (s *Store) pruneBatch(ctx context.Context, low, high uuid.UUID, cutoff time.Time, withFailed bool) (deleted int, left bool, err error) {
	err = s.inTx(ctx, "prune uploads", func(tx pgx.Tx) error {
		if err := s.q.AwaitRollUps(ctx, tx); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		rows, err := s.q.PrunableUploads(ctx, tx, db.PrunableUploadsParams{
			WithFailed: withFailed, Cutoff: cutoff, Low: low, High: high, Most: pruneBatch,
		})
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		var ids []uuid.UUID
		for _, r := range rows {
			left = left || !r.Prunable
			ids = append(ids, r.ID)
		}
		if open, err := s.q.OpenEpochs(ctx, tx, ids); err != nil || left || open > 0 {
			left = left || open > 0
			return err
		}
		if err := s.rollUp(ctx, tx, ids, s.q.RollUpUploads, s.q.RollUpDurations, s.q.RollUpFailures); err != nil {
			return err
		}
		n, err := s.q.DeleteUploads(ctx, tx, ids)
		deleted = int(n)
		return err
	})
	return deleted, left, err
}

const (
	dropTries = 30
	dropWait  = "1s" // for the lock; reports and the ledger wait behind it
)

// dropMonth drops a month of the ledger, of which no upload is left. It asks for
// the lock in short tries, so that a long query of somebody does not make the
// ledger wait behind it.
func (s *Store) dropMonth(ctx context.Context, month string) error {
	for try := 1; ; try++ {
		err := s.inTx(ctx, "drop part_acks_"+month, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = '%s'; DROP TABLE part_acks_%s`, dropWait, month))
			return err //nolint:wrapcheck // by inTx
		})
		switch code := codeOf(err); {
		case err == nil:
			return nil
		case code == insufficientPrivilege:
			return fmt.Errorf("%w; prune as the role that owns the tables", err)
		case code != lockNotAvailable || try == dropTries:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drop part_acks_%s: %w", month, context.Cause(ctx))
		case <-time.After(time.Second):
		}
	}
}

const (
	lockNotAvailable      = "55P03"
	insufficientPrivilege = "42501"
)
