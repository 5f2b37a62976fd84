package postgres

import (
	"context"
	"time"

	"mediaferry/internal/uploads"
)

// Standing returns how many uploads are open and what waits beside them, as
// counted now: a look at every open upload, so not for each request.
func (s *Store) Standing(ctx context.Context) (uploads.Standing, error) {
	rows, err := s.q.OpenUploads(ctx, s.pool)
	if err != nil {
		return uploads.Standing{}, unavailable("count open uploads", err)
	}
	backlog, err := s.q.Backlog(ctx, s.pool)
	if err != nil {
		return uploads.Standing{}, unavailable("count what waits", err)
	}
	out := uploads.Standing{Events: int(backlog.Events), SetAside: int(backlog.SetAside), InDoubt: int(backlog.InDoubt)}
	for _, r := range rows {
		out.Open = append(out.Open, uploads.OpenCount{
			Account: r.Account, Provider: r.Provider, State: uploads.State(r.State), Uploads: int(r.Uploads),
			Oldest: time.Duration(r.Oldest * float64(time.Second)),
		})
	}
	return out, nil
}

// Connections returns how many connections of the pool are in use, how many
// wait for use, and how many there may be.
func (s *Store) Connections() (used, idle, most int) {
	stat := s.pool.Stat()
	return int(stat.AcquiredConns()), int(stat.IdleConns()), int(stat.MaxConns())
}
