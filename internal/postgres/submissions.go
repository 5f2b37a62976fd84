package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// submissionsChannel is what mediaferry.submit notifies when its caller commits.
const submissionsChannel = "mediaferry_submissions"

// ClaimSubmissions takes submissions by SQL that are due, under a lease, and
// returns them in no order.
func (s *Store) ClaimSubmissions(ctx context.Context, most int, lease time.Duration) (uploads.Lease, []uploads.ClaimedSubmission, error) {
	token, err := uuid.NewRandom()
	if err != nil {
		return token, nil, fmt.Errorf("lease: %w", err)
	}
	rows, err := s.q.ClaimSubmissions(ctx, s.pool, &token, lease, int32(most)) //nolint:gosec // a constant of the caller
	if err != nil {
		return token, nil, unavailable("claim submissions", err)
	}
	claimed := make([]uploads.ClaimedSubmission, 0, len(rows))
	for _, r := range rows {
		c := uploads.ClaimedSubmission{ID: r.ID, Digests: r.Digests, Tries: int(r.Tries), Age: r.Age, Submission: uploads.Submission{
			Tenant: r.Tenant, Account: r.Account, IdempotencyKey: value(r.IdempotencyKey),
			Source: uploads.Object{Bucket: r.SourceBucket, Key: r.SourceKey, Version: r.SourceVersion, ETag: r.SourceEtag},
			Name:   r.Name, ContentType: r.ContentType, Priority: int(r.Priority), NotBefore: value(r.NotBefore).UTC(),
		}}
		if r.NotBefore == nil {
			c.Submission.NotBefore = time.Time{}
		}
		if c.Submission.Options, err = unmarshalMap(r.Options); err != nil {
			return token, nil, fmt.Errorf("options of submission %s: %w", r.ID, err)
		}
		if c.Submission.Labels, err = unmarshalMap(r.Labels); err != nil {
			return token, nil, fmt.Errorf("labels of submission %s: %w", r.ID, err)
		}
		claimed = append(claimed, c)
	}
	return token, claimed, nil
}

// AcceptSubmissions makes uploads of submissions that are claimed under the
// lease: durable on return, and only those whose lease has not passed on. One
// whose idempotency key has an upload already is joined with it, if that is of
// an equal submission; if not it is left, and returned in taken.
func (s *Store) AcceptSubmissions(ctx context.Context, lease uploads.Lease, list []uploads.TakenSubmission) (accepted map[uploads.ID]bool, taken []uploads.ID, err error) {
	p := db.AcceptSubmissionsParams{LeaseToken: &lease}
	for _, t := range list {
		p.Ids = append(p.Ids, t.ID)
		p.Providers = append(p.Providers, t.Provider)
		p.Pools = append(p.Pools, t.Pool)
		p.KnownBy = append(p.KnownBy, t.KnownBy)
		p.RequestHashes = append(p.RequestHashes, t.RequestHash)
		p.SourceVersions = append(p.SourceVersions, t.Source.Version)
		p.SourceEtags = append(p.SourceEtags, t.Source.ETag)
		p.Sizes = append(p.Sizes, t.Source.Size)
		p.Names = append(p.Names, t.Name)
		p.Digests = append(p.Digests, strings.Join(t.Digests, " "))
	}
	accepted = make(map[uploads.ID]bool, len(list))
	err = s.inTx(ctx, "accept submissions", func(tx pgx.Tx) error {
		made, err := s.q.AcceptSubmissions(ctx, tx, p)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		for _, id := range made {
			accepted[id] = true
		}
		if len(made) == len(list) {
			return nil
		}
		taken, err = s.q.JoinSubmissions(ctx, tx, p.Ids, p.RequestHashes, &lease)
		if err != nil {
			return fmt.Errorf("look up idempotency keys: %w", err)
		}
		return nil
	})
	return accepted, taken, err
}

// RefuseSubmissions makes failed uploads of submissions that are claimed under
// the lease, each with its event: durable on return.
func (s *Store) RefuseSubmissions(ctx context.Context, lease uploads.Lease, list []uploads.RefusedSubmission) error {
	p := db.RefuseSubmissionsParams{LeaseToken: &lease}
	for _, r := range list {
		r.Failure.Message = clean(r.Failure.Message)
		failure, err := json.Marshal(r.Failure)
		if err != nil {
			return fmt.Errorf("encode failure: %w", err)
		}
		p.Ids = append(p.Ids, r.ID)
		p.Providers = append(p.Providers, r.Provider)
		p.Pools = append(p.Pools, r.Pool)
		p.Names = append(p.Names, r.Name)
		p.Failures = append(p.Failures, string(failure))
	}
	if _, err := s.q.RefuseSubmissions(ctx, s.pool, p); err != nil {
		return unavailable("refuse submissions", err)
	}
	return nil
}

// PostponeSubmissions gives up the claims of submissions, which are due again
// after the delay; tries is added to theirs.
func (s *Store) PostponeSubmissions(ctx context.Context, lease uploads.Lease, ids []uploads.ID, delay time.Duration, tries int) error {
	err := s.q.PostponeSubmissions(ctx, s.pool, db.PostponeSubmissionsParams{
		Delay: delay, Tries: int32(tries), Ids: ids, LeaseToken: &lease, //nolint:gosec // 0 or 1
	})
	if err != nil {
		return unavailable("postpone submissions", err)
	}
	return nil
}

// ListenSubmissions calls wake whenever submissions by SQL are committed, and
// once when it begins to listen. It returns when ctx ends or the connection does,
// always with an error. The connection is one beside those of the pool. Through a
// pooler that hands out connections for single transactions nothing is ever heard.
func (s *Store) ListenSubmissions(ctx context.Context, wake func()) error {
	cfg := s.pool.Config().ConnConfig.Copy()
	cfg.Tracer = nil
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return unavailable("listen for submissions", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN "+submissionsChannel); err != nil {
		return unavailable("listen for submissions", err)
	}
	for {
		wake()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return unavailable("listen for submissions", err)
		}
	}
}
