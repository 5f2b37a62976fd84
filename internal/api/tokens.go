package api

import (
	"context"
	"time"

	"mediaferry/internal/access"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

type createTokenRequest struct {
	Body wire.TokenRequest
}

type newTokenAnswer struct {
	Body wire.NewToken
}

// createToken makes a token. One that is bound to a tenant makes others for
// that tenant alone.
func (s *server) createToken(ctx context.Context, in *createTokenRequest) (*newTokenAnswer, error) {
	b := in.Body
	if (b.Tenant == "") == !b.AllTenants {
		return nil, s.problem("create-token", &uploads.FieldError{
			Field: "tenant", Detail: "and all_tenants exclude each other; give one of the two",
		})
	}
	if !access.FromContext(ctx).Allows(b.Tenant) {
		return nil, s.problem("create-token", &uploads.FieldError{
			Field: "tenant", Detail: "is not that of your own token; ask for a token of your tenant",
		})
	}
	want := access.Token{Name: b.Name, Tenant: b.Tenant, ExpiresAt: b.ExpiresAt}
	for _, scope := range b.Scopes {
		want.Scopes = append(want.Scopes, access.Scope(scope))
	}
	t, secret, hash, err := access.New(want, time.Now())
	if err != nil {
		return nil, s.problem("create-token", err)
	}
	if err := s.tokens.AddToken(ctx, t, hash); err != nil {
		return nil, s.problem("create-token", err)
	}
	return &newTokenAnswer{Body: wire.NewToken{Token: tokenView(t), Secret: secret}}, nil
}

type tokensAnswer struct {
	Body wire.TokenList
}

func (s *server) listTokens(ctx context.Context, _ *struct{}) (*tokensAnswer, error) {
	all, err := s.tokens.Tokens(ctx, access.FromContext(ctx).Tenant)
	if err != nil {
		return nil, s.problem("list-tokens", err)
	}
	out := wire.TokenList{Tokens: []wire.Token{}}
	for _, t := range all {
		out.Tokens = append(out.Tokens, tokenView(t))
	}
	return &tokensAnswer{Body: out}, nil
}

type revokeTokenRequest struct {
	ID string `path:"id" format:"uuid" doc:"the token's id"`
}

// revokeToken may be repeated. Other dispatchers take note within seconds.
func (s *server) revokeToken(ctx context.Context, in *revokeTokenRequest) (*struct{}, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("revoke-token", err)
	}
	err = s.tokens.RevokeToken(ctx, access.FromContext(ctx).Tenant, id)
	if err != nil {
		return nil, s.problem("revoke-token", err)
	}
	s.seen.forget()
	return nil, nil // there is nothing to tell
}

func tokenView(t access.Token) wire.Token {
	out := wire.Token{
		ID: t.ID.String(), Name: t.Name, Prefix: t.Prefix, Tenant: t.Tenant, Scopes: []string{},
		CreatedAt: utc(t.CreatedAt), ExpiresAt: utc(t.ExpiresAt), RevokedAt: utc(t.RevokedAt), LastUsedAt: utc(t.LastUsedAt),
	}
	for _, scope := range t.Scopes {
		out.Scopes = append(out.Scopes, string(scope))
	}
	return out
}
