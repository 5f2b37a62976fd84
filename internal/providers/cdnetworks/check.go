package cdnetworks

import (
	"context"

	"mediaferry/internal/providers"
)

var _ providers.CredentialChecker = (*Client)(nil)

// CheckCredentials asks for a video that does not exist.
func (c *Client) CheckCredentials(ctx context.Context, account providers.Account) (string, error) {
	t, err := readAccount(account)
	if err != nil {
		return "", &providers.Error{Kind: providers.Rejected, Call: callList, Err: err}
	}
	if _, _, err := c.video(ctx, t, "00000000000000000000000000000000"); err != nil {
		return "", err
	}
	return callList + " for a video that does not exist: not listed", nil
}
