package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"mediaferry/internal/api/wire"
)

// AccountCheck is what a harmless call with an account's credentials came to.
type AccountCheck = wire.AccountCheck

// CheckAccount tries an account's credentials by a call that begins nothing at the
// platform. It may be repeated.
func (c *Client) CheckAccount(ctx context.Context, name string) (AccountCheck, error) {
	var check AccountCheck
	if _, err := c.callAgain(ctx, http.MethodPost, "/v1/accounts/"+url.PathEscape(name)+"/check", nil, &check); err != nil {
		return AccountCheck{}, fmt.Errorf("check account %s: %w", name, err)
	}
	return check, nil
}
