package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// SetAside keeps a message that is to be taken off its stream: durable on
// return. It may be repeated. What is too long of the payload is cut off.
func (s *Store) SetAside(ctx context.Context, m uploads.SetAside) error {
	headers := make(map[string][]string, len(m.Headers))
	for name, values := range m.Headers {
		kept := make([]string, len(values))
		for i, v := range values {
			kept[i] = clean(v)
		}
		headers[clean(name)] = kept
	}
	raw, err := json.Marshal(headers)
	if err != nil {
		return fmt.Errorf("encode headers: %w", err)
	}
	payload := m.Payload[:min(len(m.Payload), uploads.MaxSetAside)]
	err = s.q.InsertSetAside(ctx, s.pool, db.InsertSetAsideParams{
		Stream: m.Stream, Subject: clean(m.Subject), Seq: int64(m.Seq), PublishedAt: m.Published, //nolint:gosec // counts messages
		Headers: raw, Payload: append([]byte{}, payload...), Size: m.Size, Reason: clean(m.Reason), Worker: clean(m.Worker),
	})
	if err != nil {
		return unavailable("set a message aside", err)
	}
	return nil
}

// ListSetAside returns messages that are set aside, newest first, without their
// payloads; before is the number of the last one of the page before, 0 for the
// first page.
func (s *Store) ListSetAside(ctx context.Context, before int64, limit int) ([]uploads.SetAside, error) {
	rows, err := s.q.ListSetAside(ctx, s.pool, optional(before), int32(limit)) //nolint:gosec // checked by the caller
	if err != nil {
		return nil, unavailable("list what is set aside", err)
	}
	out := make([]uploads.SetAside, 0, len(rows))
	for _, r := range rows {
		m, err := toSetAside(db.SetAside{
			ID: r.ID, Stream: r.Stream, Subject: r.Subject, Seq: r.Seq, PublishedAt: r.PublishedAt, Headers: r.Headers,
			Size: r.Size, Reason: r.Reason, Worker: r.Worker, At: r.At,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// SetAsideMessage returns one message with its payload, or uploads.ErrNoSetAside.
func (s *Store) SetAsideMessage(ctx context.Context, number int64) (uploads.SetAside, error) {
	r, err := s.q.SetAsideMessage(ctx, s.pool, number)
	if errors.Is(err, pgx.ErrNoRows) {
		return uploads.SetAside{}, fmt.Errorf("%w: %d", uploads.ErrNoSetAside, number)
	}
	if err != nil {
		return uploads.SetAside{}, unavailable("read what is set aside", err)
	}
	return toSetAside(r)
}

// DropSetAside forgets a message, or fails with uploads.ErrNoSetAside.
func (s *Store) DropSetAside(ctx context.Context, number int64) error {
	n, err := s.q.DropSetAside(ctx, s.pool, number)
	if err != nil {
		return unavailable("drop what is set aside", err)
	}
	if n == 0 {
		return fmt.Errorf("%w: %d", uploads.ErrNoSetAside, number)
	}
	return nil
}

func toSetAside(r db.SetAside) (uploads.SetAside, error) {
	m := uploads.SetAside{
		Number: r.ID, Stream: r.Stream, Subject: r.Subject, Seq: uint64(r.Seq), Published: r.PublishedAt, //nolint:gosec // written by SetAside
		Payload: r.Payload, Size: r.Size, Reason: r.Reason, Worker: r.Worker, At: r.At,
	}
	if err := json.Unmarshal(r.Headers, &m.Headers); err != nil {
		return m, fmt.Errorf("headers of %d: %w", r.ID, err)
	}
	return m, nil
}
