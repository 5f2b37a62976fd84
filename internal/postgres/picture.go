package postgres

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/uploads"
)

// firstID is not above the id of any upload that was submitted from then on,
// since a UUIDv7 begins with its milliseconds.
func firstID(at time.Time) (id uploads.ID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(at.UnixMilli(), 0)))
	copy(id[:6], ms[2:])
	return id
}

// collect runs a query of the pages and reads its rows. Doing says what for.
func collect[T any](ctx context.Context, s *Store, doing, sql string, scan func(pgx.CollectableRow) (T, error), args ...any) ([]T, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable(doing, err)
	}
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, unavailable(doing, err)
	}
	return out, nil
}

// CountStates counts the uploads of a tenant that were submitted since then.
func (s *Store) CountStates(ctx context.Context, tenant string, since time.Time) (map[uploads.State]int, error) {
	type count struct {
		state uploads.State
		n     int
	}
	rows, err := collect(ctx, s, "count uploads",
		`SELECT state, count(*) FROM uploads WHERE tenant = $1 AND id >= $2 GROUP BY state`,
		func(row pgx.CollectableRow) (c count, err error) { return c, row.Scan(&c.state, &c.n) },
		tenant, firstID(since))
	out := make(map[uploads.State]int, len(rows))
	for _, c := range rows {
		out[c.state] = c.n
	}
	return out, err
}

// Ledger returns the parts of an upload's epoch that are acknowledged, as
// ranges in ascending order, and how often parts of it failed.
func (s *Store) Ledger(ctx context.Context, id uploads.ID, epoch int) ([]uploads.PartRange, []uploads.PartTries, error) {
	ranges, err := collect(ctx, s, "read ledger", `
		SELECT min(part), count(*), found FROM (
			SELECT part, found, part - row_number() OVER (PARTITION BY found ORDER BY part) AS island
			FROM part_acks WHERE upload_id = $1 AND epoch = $2) AS a
		GROUP BY found, island ORDER BY 1`,
		func(row pgx.CollectableRow) (r uploads.PartRange, err error) {
			var found bool
			err = row.Scan(&r.First, &r.Count, &found)
			if r.State = uploads.PartAcked; found {
				r.State = uploads.PartFound
			}
			return r, err //nolint:wrapcheck // it is in collect
		}, id, epoch)
	if err != nil {
		return nil, nil, err
	}
	failed, err := collect(ctx, s, "read failed tries", `
		SELECT part, count(*) FROM part_failures WHERE upload_id = $1 AND epoch = $2 AND part > 0
		GROUP BY part ORDER BY part LIMIT $3`,
		func(row pgx.CollectableRow) (t uploads.PartTries, err error) { return t, row.Scan(&t.Part, &t.Tries) },
		id, epoch, uploads.MaxFailedParts)
	return ranges, failed, err
}

// FedParts returns up to which part an upload has been fed.
func (s *Store) FedParts(ctx context.Context, id uploads.ID) (int, error) {
	var fed int
	if err := s.pool.QueryRow(ctx, `SELECT fed FROM uploads WHERE id = $1`, id).Scan(&fed); err != nil {
		return 0, unavailable("read upload", err)
	}
	return fed, nil
}

// History returns the moves and failed tries of an upload of the tenant, or
// uploads.ErrNotFound.
func (s *Store) History(ctx context.Context, tenant string, id uploads.ID) (h uploads.History, err error) {
	if _, err := s.Upload(ctx, tenant, id); err != nil {
		return h, err
	}
	if h.Moves, err = collect(ctx, s, "read moves", `
		SELECT coalesce(from_state::text, ''), to_state, reason, at FROM state_changes WHERE upload_id = $1 ORDER BY id`,
		func(row pgx.CollectableRow) (m uploads.Move, err error) {
			return m, row.Scan(&m.From, &m.To, &m.Reason, &m.At)
		}, id); err != nil {
		return h, err
	}
	h.Tries, err = collect(ctx, s, "read failed tries", `
		SELECT epoch, part, kind, code, message, worker, started_at, failed_at, excused, count(*) OVER ()
		FROM part_failures WHERE upload_id = $1 ORDER BY failed_at DESC, id DESC LIMIT $2`,
		func(row pgx.CollectableRow) (t uploads.Try, err error) {
			return t, row.Scan(&t.Epoch, &t.Part, &t.Kind, &t.Code, &t.Message, &t.Worker, &t.Started, &t.Failed, &t.Excused, &h.Count)
		}, id, uploads.MaxTries)
	return h, err
}

const (
	maxGroups   = 100
	latestTries = 10_000 // that are looked at for groups
)

// FailuresByCause groups the tenant's failed uploads that were submitted since then by
// cause and account, and the failed tries of the last hour by kind; of those,
// the last ten thousand are looked at.
func (s *Store) FailuresByCause(ctx context.Context, tenant string, since time.Time) (f uploads.Failures, err error) {
	f.Since = since
	if f.Uploads, err = collect(ctx, s, "group failed uploads", `
		SELECT failure ->> 'cause', account, count(*), max(finished_at),
			(array_agg(id ORDER BY finished_at DESC))[1], (array_agg(name ORDER BY finished_at DESC))[1],
			coalesce((array_agg(failure ->> 'message' ORDER BY finished_at DESC))[1], '')
		FROM uploads WHERE tenant = $1 AND id >= $2 AND state = 'failed'
		GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT $3`,
		func(row pgx.CollectableRow) (g uploads.FailureGroup, err error) {
			return g, row.Scan(&g.Cause, &g.Account, &g.Count, &g.Last, &g.Example, &g.Name, &g.Message)
		}, tenant, firstID(since), maxGroups); err != nil {
		return f, err
	}
	f.Tries, err = collect(ctx, s, "group failed tries", `
		SELECT f.account, f.kind, f.code, count(*), count(DISTINCT f.upload_id), max(f.failed_at),
			(array_agg(f.message ORDER BY f.failed_at DESC))[1]
		FROM part_failures f JOIN uploads u ON u.id = f.upload_id
		WHERE f.id > (SELECT coalesce(max(id), 0) FROM part_failures) - $2 AND f.failed_at > now() - interval '1 hour' AND u.tenant = $1
		GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT $3`,
		func(row pgx.CollectableRow) (g uploads.TryGroup, err error) {
			return g, row.Scan(&g.Account, &g.Kind, &g.Code, &g.Count, &g.Uploads, &g.Last, &g.Message)
		}, tenant, latestTries, maxGroups)
	return f, err
}
