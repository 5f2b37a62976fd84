package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"mediaferry/internal/access"
)

func (b *bundle) token(t *testing.T, want access.Token) (access.Token, []byte) {
	t.Helper()
	token, _, hash, err := access.New(want, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddToken(t.Context(), token, hash); err != nil {
		t.Fatal(err)
	}
	return token, hash
}

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	films, hash := b.token(t, access.Token{
		Name: "cutter", Tenant: "films", Scopes: []access.Scope{access.Submit, access.Read}, ExpiresAt: time.Now().Add(time.Hour),
	})
	all, _ := b.token(t, access.Token{Name: "operator", Scopes: []access.Scope{access.Admin}})

	if _, err := b.TokenByHash(t.Context(), access.Hash("another")); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a token that is not there: %v", err)
	}
	got, err := b.TokenByHash(t.Context(), hash)
	if diff := cmp.Diff(films, got, cmpopts.EquateApproxTime(time.Millisecond)); diff != "" || err != nil {
		t.Errorf("token (-want +got):\n%s%v", diff, err)
	}
	// The use is noted, and not at each look.
	used := func() time.Time {
		t.Helper()
		again, err := b.TokenByHash(t.Context(), hash)
		if err != nil || again.LastUsedAt.IsZero() {
			t.Fatalf("%+v, %v", again, err)
		}
		return again.LastUsedAt
	}
	if first := used(); !used().Equal(first) {
		t.Error("each look writes")
	}

	for tenant, want := range map[string][]uuid.UUID{"": {films.ID, all.ID}, "films": {films.ID}, "news": nil} {
		list, err := b.Tokens(t.Context(), tenant)
		var ids []uuid.UUID
		for _, token := range list {
			ids = append(ids, token.ID)
		}
		if diff := cmp.Diff(want, ids); diff != "" || err != nil {
			t.Errorf("tokens of %q (-want +got):\n%s%v", tenant, diff, err)
		}
	}

	for _, tenant := range []string{"news", "films2"} {
		if err := b.RevokeToken(t.Context(), tenant, films.ID); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("revoked by %s: %v", tenant, err)
		}
	}
	for range 2 {
		if err := b.RevokeToken(t.Context(), "films", films.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.TokenByHash(t.Context(), hash); err != nil || got.RevokedAt.IsZero() || got.Live(time.Now()) {
		t.Errorf("after the revocation: %+v, %v", got, err)
	}
	// What is kept is no use to whoever reads it.
	if rows := b.query(t, `SELECT encode(hash, 'hex') FROM api_tokens WHERE octet_length(hash) = 32`); len(rows) != 2 {
		t.Errorf("%d digests", len(rows))
	}
}

func TestADatabaseWithoutTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.query(t, `DROP TABLE api_tokens`)
	_, err := b.Tokens(t.Context(), "")
	if err == nil || err.Error() != "list tokens: the database has no table for tokens yet; run: mediaferry migrate up" {
		t.Errorf("got %v", err)
	}
}
