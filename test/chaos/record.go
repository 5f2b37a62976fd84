package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is an upload as the database has it.
type row struct {
	id, tenant, account, key, state string
	epoch, partCount, ackedParts    int
	partSize, size, ackedBytes      int64
	asset, cause, message           string
	intent                          bool
}

// ack is a row of the ledger.
type ack struct {
	epoch, part    int
	offset, length int64
	found          bool
	acked          time.Time
}

// failed is a row of part_failures.
type failed struct {
	upload, kind, code, message, worker string
	epoch, part                         int
	started, at                         time.Time
}

// change is a row of state_changes.
type change struct {
	from, to, reason string
	at               time.Time
}

// record is what the database says, read with statements of our own.
type record struct {
	uploads  map[string]*row // by id
	byKey    map[string][]*row
	acks     map[string][]ack
	failures []failed
	changes  map[string][]change
}

func readRecord(ctx context.Context, dsn string) (*record, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	r := &record{
		uploads: make(map[string]*row), byKey: make(map[string][]*row), acks: make(map[string][]ack), changes: make(map[string][]change),
	}
	query := func(sql string, scan func(pgx.Rows) error) {
		if err != nil {
			return
		}
		var rows pgx.Rows
		if rows, err = conn.Query(ctx, sql); err != nil {
			return
		}
		defer rows.Close()
		for rows.Next() {
			if err = scan(rows); err != nil {
				return
			}
		}
		err = rows.Err()
	}
	query(`SELECT id::text, tenant, account, coalesce(idempotency_key, ''), state::text, epoch, coalesce(part_count, 0), acked_parts,
			coalesce(part_size, 0), size, acked_bytes, coalesce(asset->>'id', ''), coalesce(failure::text, '{}'), finish_intent_at IS NOT NULL
		FROM uploads`, func(rows pgx.Rows) error {
		u := new(row)
		var failure string
		err := rows.Scan(&u.id, &u.tenant, &u.account, &u.key, &u.state, &u.epoch, &u.partCount, &u.ackedParts,
			&u.partSize, &u.size, &u.ackedBytes, &u.asset, &failure, &u.intent)
		var f struct{ Cause, Message string }
		_ = json.Unmarshal([]byte(failure), &f) // a failure that cannot be read has no cause, which a check reports
		u.cause, u.message = f.Cause, f.Message
		r.uploads[u.id] = u
		r.byKey[u.key] = append(r.byKey[u.key], u)
		return err //nolint:wrapcheck // readRecord does
	})
	query(`SELECT upload_id::text, epoch, part, "offset", length, found, acked_at FROM part_acks ORDER BY upload_id, epoch, part`, func(rows pgx.Rows) error {
		var id string
		var a ack
		err := rows.Scan(&id, &a.epoch, &a.part, &a.offset, &a.length, &a.found, &a.acked)
		r.acks[id] = append(r.acks[id], a)
		return err //nolint:wrapcheck // readRecord does
	})
	query(`SELECT upload_id::text, epoch, part, kind, code, message, worker, started_at, failed_at FROM part_failures ORDER BY id`, func(rows pgx.Rows) error {
		var f failed
		err := rows.Scan(&f.upload, &f.epoch, &f.part, &f.kind, &f.code, &f.message, &f.worker, &f.started, &f.at)
		r.failures = append(r.failures, f)
		return err //nolint:wrapcheck // readRecord does
	})
	query(`SELECT upload_id::text, coalesce(from_state::text, ''), to_state::text, reason, at FROM state_changes ORDER BY upload_id, id`, func(rows pgx.Rows) error {
		var id string
		var c change
		err := rows.Scan(&id, &c.from, &c.to, &c.reason, &c.at)
		r.changes[id] = append(r.changes[id], c)
		return err //nolint:wrapcheck // readRecord does
	})
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	return r, nil
}

// progress is how far all uploads are.
type progress struct {
	unended int // uploads on which work is still due
	acked   int // rows of the ledger
}

func progressOf(ctx context.Context, dsn string) (p progress, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return p, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM uploads WHERE state NOT IN ('completed', 'failed', 'cancelled')),
		(SELECT count(*) FROM part_acks)`).Scan(&p.unended, &p.acked)
	if err != nil {
		return p, fmt.Errorf("count what has not ended: %w", err)
	}
	return p, nil
}
