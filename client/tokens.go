package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"mediaferry/internal/api/wire"
)

// CreateToken makes a token. Its secret is in the answer and told never again.
func (c *Client) CreateToken(ctx context.Context, want TokenRequest) (NewToken, error) {
	var made NewToken
	if _, err := c.call(ctx, http.MethodPost, "/v1/tokens", want, &made); err != nil {
		return NewToken{}, fmt.Errorf("create token: %w", err)
	}
	return made, nil
}

// Tokens returns the tokens of the tenant that the client's token is bound to,
// or all.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	var list wire.TokenList
	if _, err := c.call(ctx, http.MethodGet, "/v1/tokens", nil, &list); err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list.Tokens, nil
}

// RevokeToken ends a token, everywhere within seconds; it may be repeated.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	if _, err := c.callAgain(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil); err != nil {
		return fmt.Errorf("revoke token %s: %w", id, err)
	}
	return nil
}
