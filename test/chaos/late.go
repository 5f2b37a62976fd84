package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Of worker_late. A job that a worker is silent about goes to another one after
// 10 s, and its session is found lost only then.
const (
	lateLag     = 3 * time.Second  // of each part, so that many are in hand
	lateAnswers = 4 * time.Second  // within which parts in hand have been answered
	lateMost    = 20 * time.Second // that reports are held
	lateEnough  = 3                // uploads in another epoch
)

// late cuts all workers but one off from NATS when each has parts in hand. The
// platforms answer them, their reports wait on the way, and meanwhile some of
// their uploads are cancelled and the sessions of others lapse. When several are
// under way in another epoch, the reports arrive.
func (n *nemesis) late(ctx context.Context, e event) (string, error) {
	if !n.lates.TryLock() {
		return "", nil // one at a time
	}
	defer n.lates.Unlock()
	conn, err := pgx.Connect(ctx, n.w.postgres.DSN())
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	lag := func(d time.Duration) {
		for _, a := range n.w.accounts {
			a.gate.setLag(d)
		}
	}
	lag(lateLag)
	defer lag(0)
	if !wait(ctx, lateLag) {
		return "", nil
	}
	workers := n.w.kind("worker")
	workers = slices.Delete(workers, e.target%len(workers), e.target%len(workers)+1)
	for _, r := range workers {
		r.wire.hold()
	}
	release := func() {
		for _, r := range workers {
			r.wire.release()
		}
	}
	defer release()
	keys, err := underWay(ctx, conn)
	if err != nil {
		return "", err
	}
	wait(ctx, lateAnswers)
	cancelled := n.cancelSome(ctx, keys)
	n.lapse(e.target)
	var moved int
	for until := time.Now().Add(lateMost - lateAnswers); time.Now().Before(until); {
		err := conn.QueryRow(ctx, `SELECT count(*) FROM uploads WHERE state = 'uploading' AND idempotency_key = ANY($1)
			AND epoch > 1 AND acked_parts < part_count`, keys).Scan(&moved)
		if err != nil || moved >= lateEnough || !wait(ctx, 20*time.Millisecond) {
			break // where Postgres is away, by another fault, reports are late all the same
		}
	}
	release()
	wait(ctx, lateLag) // the reports land while the parts of the new epoch still wait
	return fmt.Sprintf("reports on %d uploads held, %d of them cancelled, %d in another epoch", len(keys), cancelled, moved), nil
}

// underWay returns the keys of uploads whose first epoch has parts under way.
func underWay(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT idempotency_key FROM uploads
		WHERE state = 'uploading' AND epoch = 1 AND fed_bytes > acked_bytes ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("find uploads under way: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("find uploads under way: %w", err)
	}
	return keys, nil
}

// cancelSome cancels a third of the uploads.
func (n *nemesis) cancelSome(ctx context.Context, keys []string) (cancelled int) {
	for i, key := range keys {
		if i%3 != 0 {
			continue
		}
		for _, s := range n.load.all {
			s.mu.Lock()
			known := s.key == key && s.id != ""
			s.mu.Unlock()
			if known {
				n.load.cancel(ctx, s)
				cancelled++
			}
		}
	}
	return cancelled
}

// lapse has sessions lapse at every platform that can, and returns which.
func (n *nemesis) lapse(first int) (providers []string) {
	for i := range n.w.platforms {
		p := n.w.platforms[(first+i)%len(n.w.platforms)]
		if p.expire != nil {
			p.expire()
			providers = append(providers, p.provider)
		}
	}
	return providers
}
