package postgres

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// statements tells whoever watches how long statements take. Nobody watching
// costs one load for each.
type statements struct {
	watch atomic.Pointer[func(statement string, took time.Duration, err error)]
}

var _ pgx.QueryTracer = (*statements)(nil)

// Watch has watch called when a statement has ended, with its name in queries/,
// or "begin", "commit", "rollback" and "other". It is called by many goroutines at
// once and must not block.
func (s *Store) Watch(watch func(statement string, took time.Duration, err error)) {
	s.statements.watch.Store(&watch)
}

// statementKey is where the context of a statement has its startedStatement.
type statementKey struct{}

type startedStatement struct {
	name string
	at   time.Time
}

// TraceQueryStart notes when the statement began.
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if s.watch.Load() == nil {
		return ctx
	}
	return context.WithValue(ctx, statementKey{}, startedStatement{name: statementName(data.SQL), at: time.Now()})
}

// TraceQueryEnd is called when the last row is read.
func (s *statements) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	watch := s.watch.Load()
	if began, ok := ctx.Value(statementKey{}).(startedStatement); ok && watch != nil {
		(*watch)(began.name, time.Since(began.at), data.Err)
	}
}

// statementName reads the name that sqlc leaves in front of a statement.
func statementName(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	switch word, _, _ := strings.Cut(sql, " "); word {
	case "begin", "commit", "rollback":
		return word
	}
	return "other"
}
