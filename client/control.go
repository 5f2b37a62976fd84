package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Pause pauses an upload: nothing is done for it, and what workers have in hand
// of it is given back, until Resume. Each may be repeated.
func (c *Client) Pause(ctx context.Context, id string, note Note) (Upload, error) {
	return c.change(ctx, "pause", id, note)
}

// Resume ends an upload's own pause; that of its account or tenant is left.
func (c *Client) Resume(ctx context.Context, id string) (Upload, error) {
	return c.change(ctx, "resume", id, nil)
}

// Cancel cancels an upload; it may be repeated. An upload that is completed
// stays so, and the error says it. One that is Cancelling ends as completed if
// the finishing call under way made an asset, else as cancelled.
func (c *Client) Cancel(ctx context.Context, id string) (Upload, error) {
	return c.change(ctx, "cancel", id, nil)
}

// Retry gives a failed upload another life, from its beginning. One that is not
// failed is an *Error with status 409.
func (c *Client) Retry(ctx context.Context, id string) (Upload, error) {
	return c.change(ctx, "retry", id, nil)
}

func (c *Client) change(ctx context.Context, action, id string, body any) (Upload, error) {
	var u Upload
	// A retry made twice is refused the second time.
	if _, err := c.exchange(ctx, http.MethodPost, "/v1/uploads/"+url.PathEscape(id)+"/"+action, action != "retry", body, &u); err != nil {
		return Upload{}, fmt.Errorf("%s upload %s: %w", action, id, err)
	}
	return u, nil
}

// PauseMatching pauses the uploads that are selected. This and the following
// are not one transaction: after an error they may be repeated for the rest.
func (c *Client) PauseMatching(ctx context.Context, change Change) (Changed, error) {
	return c.changeMatching(ctx, "pause", change)
}

// ResumeMatching ends the pauses of the uploads that are selected.
func (c *Client) ResumeMatching(ctx context.Context, change Change) (Changed, error) {
	return c.changeMatching(ctx, "resume", change)
}

// CancelMatching cancels the uploads that are selected.
func (c *Client) CancelMatching(ctx context.Context, change Change) (Changed, error) {
	return c.changeMatching(ctx, "cancel", change)
}

// RetryMatching retries the failed uploads that are selected, those that need a
// human only where Causes names needs_human.
func (c *Client) RetryMatching(ctx context.Context, change Change) (Changed, error) {
	return c.changeMatching(ctx, "retry", change)
}

func (c *Client) changeMatching(ctx context.Context, action string, change Change) (Changed, error) {
	var done Changed
	if _, err := c.call(ctx, http.MethodPost, "/v1/uploads/"+action, change, &done); err != nil {
		return Changed{}, fmt.Errorf("%s uploads: %w", action, err)
	}
	return done, nil
}

// PauseAccount pauses an account of the tenant; it may be repeated, and the
// first note is kept.
func (c *Client) PauseAccount(ctx context.Context, name string, note Note) (Account, error) {
	var a Account
	err := c.hold(ctx, "account", name, "pause", note, &a)
	return a, err
}

// ResumeAccount ends the pause of an account; that of its tenant is left.
func (c *Client) ResumeAccount(ctx context.Context, name string) (Account, error) {
	var a Account
	err := c.hold(ctx, "account", name, "resume", nil, &a)
	return a, err
}

// PauseTenant pauses all accounts of a tenant, as PauseAccount does.
func (c *Client) PauseTenant(ctx context.Context, name string, note Note) (Tenant, error) {
	var t Tenant
	err := c.of(name).hold(ctx, "tenant", name, "pause", note, &t)
	return t, err
}

// ResumeTenant ends the pause of a tenant; those of its accounts are left.
func (c *Client) ResumeTenant(ctx context.Context, name string) (Tenant, error) {
	var t Tenant
	err := c.of(name).hold(ctx, "tenant", name, "resume", nil, &t)
	return t, err
}

// of returns the client acting for another tenant.
func (c *Client) of(tenant string) *Client {
	other := *c
	other.tenant = tenant
	return &other
}

func (c *Client) hold(ctx context.Context, scope, name, action string, body, out any) error {
	if _, err := c.callAgain(ctx, http.MethodPost, "/v1/"+scope+"s/"+url.PathEscape(name)+"/"+action, body, out); err != nil {
		return fmt.Errorf("%s %s %s: %w", action, scope, name, err)
	}
	return nil
}
