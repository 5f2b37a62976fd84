package tencentcos

import (
	"context"
	"errors"

	"mediaferry/internal/providers"
)

var _ providers.CredentialChecker = (*Client)(nil)

// CheckCredentials commits a session that does not exist. That has no effect, and
// only accepted credentials get the answer that there is no such session.
func (c *Client) CheckCredentials(ctx context.Context, account providers.Account) (string, error) {
	t, err := readAccount(account)
	if err != nil {
		return "", &providers.Error{Kind: providers.Rejected, Call: actionCommit, Err: err}
	}
	_, err = c.commit(ctx, t.service, "mediaferry-check")
	e, ok := errors.AsType[*providers.Error](err)
	switch {
	case err == nil:
		return "", &providers.Error{Kind: providers.Rejected, Call: actionCommit, Message: "a session that does not exist was committed; is this the platform?"}
	case ok && e.Kind == providers.SessionLost:
		return actionCommit + " of a session that does not exist: no such session", nil
	case ok && e.Kind == providers.UnknownOutcome:
		e.Kind = providers.Transient // nothing can have come of it
	}
	return "", err
}
