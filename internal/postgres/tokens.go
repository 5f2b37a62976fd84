package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mediaferry/internal/access"
	"mediaferry/internal/postgres/db"
)

// undefinedTable is what Postgres says of a database that is not migrated.
const undefinedTable = "42P01"

// AddToken keeps a token under the digest that it is looked up by. It is
// durable on return.
func (s *Store) AddToken(ctx context.Context, t access.Token, hash []byte) error {
	err := s.q.InsertToken(ctx, s.pool, db.InsertTokenParams{
		ID: t.ID, Name: t.Name, Hash: hash, Prefix: t.Prefix, Tenant: optional(t.Tenant), Scopes: scopeTexts(t.Scopes),
		CreatedAt: t.CreatedAt, ExpiresAt: optional(t.ExpiresAt),
	})
	return tokenError("add token", err)
}

// TokenByHash finds a token, also one that is revoked or expired, or fails
// with access.ErrUnknown. It notes, to ten minutes, that the token was used.
func (s *Store) TokenByHash(ctx context.Context, hash []byte) (access.Token, error) {
	row, err := s.q.TokenByHash(ctx, s.pool, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return access.Token{}, access.ErrUnknown
	}
	if err != nil {
		return access.Token{}, tokenError("find token", err)
	}
	t := toToken(row)
	if t.Live(time.Now()) {
		if err := s.q.TouchToken(ctx, s.pool, t.ID); err != nil {
			return access.Token{}, tokenError("note the use of a token", err)
		}
	}
	return t, nil
}

// Tokens lists the tokens that are bound to the tenant, or all with "".
func (s *Store) Tokens(ctx context.Context, tenant string) ([]access.Token, error) {
	rows, err := s.q.Tokens(ctx, s.pool, tenant)
	if err != nil {
		return nil, tokenError("list tokens", err)
	}
	out := make([]access.Token, len(rows))
	for i, row := range rows {
		out[i] = toToken(db.TokenByHashRow(row))
	}
	return out, nil
}

// RevokeToken ends a token that is bound to the tenant, or any with "". It may
// be repeated; access.ErrUnknown says that there is none.
func (s *Store) RevokeToken(ctx context.Context, tenant string, id uuid.UUID) error {
	n, err := s.q.RevokeToken(ctx, s.pool, id, tenant)
	if err != nil {
		return tokenError("revoke token", err)
	}
	if n == 0 {
		return access.ErrUnknown
	}
	return nil
}

func tokenError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == undefinedTable {
		return fmt.Errorf("%s: the database has no table for tokens yet; run: mediaferry migrate up", doing)
	}
	return unavailable(doing, err)
}

func toToken(r db.TokenByHashRow) access.Token {
	t := access.Token{
		ID: r.ID, Name: r.Name, Prefix: r.Prefix, Tenant: value(r.Tenant), CreatedAt: r.CreatedAt,
		ExpiresAt: value(r.ExpiresAt), RevokedAt: value(r.RevokedAt), LastUsedAt: value(r.LastUsedAt),
	}
	for _, scope := range r.Scopes {
		t.Scopes = append(t.Scopes, access.Scope(scope))
	}
	return t
}

func scopeTexts(scopes []access.Scope) []string {
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return texts
}
