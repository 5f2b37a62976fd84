package tencentsmh

import (
	"context"
	"fmt"
	"time"

	"mediaferry/internal/providers"
)

var _ providers.CredentialChecker = (*Client)(nil)

// CheckCredentials asks for an access token, as each upload begins. It proves the
// library and its secret, and says nothing of the space.
func (c *Client) CheckCredentials(ctx context.Context, account providers.Account) (string, error) {
	t, err := readAccount(account)
	if err != nil {
		return "", &providers.Error{Kind: providers.Rejected, Call: callToken, Err: err}
	}
	_, lapses, err := c.describe(ctx, t, options{}, providers.Media{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: a token until %s", callToken, lapses.UTC().Format(time.RFC3339)), nil
}
