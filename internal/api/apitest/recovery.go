package apitest

import (
	"context"
	"slices"

	"mediaferry/internal/uploads"
)

// Reconcile finds that every platform is where the record is.
func (p port) Reconcile(ctx context.Context, r uploads.Reconciliation) ([]uploads.Finding, uploads.ID, error) {
	if (r.Upload != uploads.ID{}) == (r.All || r.Account != "") {
		return nil, uploads.ID{}, &uploads.FieldError{Field: "upload", Detail: "give exactly one of upload, account and all"}
	}
	found, err := p.Uploads(ctx, uploads.Filter{Tenant: r.Tenant, Account: r.Account, After: r.After, Limit: 100})
	if r.Upload != (uploads.ID{}) {
		var u uploads.Upload
		u, err = p.Upload(ctx, r.Tenant, r.Upload)
		found = []uploads.Upload{u}
	}
	var findings []uploads.Finding
	for _, u := range found {
		f := uploads.Finding{Upload: u.ID, Account: u.Account, State: u.State, Action: uploads.RemedyGoOn, Holding: "session", Evidence: "asked"}
		if !u.State.Active() {
			f.Action, f.Holding = uploads.RemedyNone, ""
		}
		findings = append(findings, f)
	}
	return findings, uploads.ID{}, err
}

// ListSetAside lists what the test set aside, newest first.
func (p port) ListSetAside(_ context.Context, before int64, limit int) ([]uploads.SetAside, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	var page []uploads.SetAside
	for _, m := range slices.Backward(p.uc.SetAside) {
		if (before == 0 || m.Number < before) && len(page) < limit {
			m.Payload = nil
			page = append(page, m)
		}
	}
	return page, p.uc.due()
}

// SetAsideMessage finds one of them.
func (p port) SetAsideMessage(_ context.Context, number int64) (uploads.SetAside, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	for _, m := range p.uc.SetAside {
		if m.Number == number {
			return m, p.uc.due()
		}
	}
	return uploads.SetAside{}, uploads.ErrNoSetAside
}

// DropSetAside forgets one of them.
func (p port) DropSetAside(ctx context.Context, number int64) error {
	if _, err := p.SetAsideMessage(ctx, number); err != nil {
		return err
	}
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	p.uc.SetAside = slices.DeleteFunc(p.uc.SetAside, func(m uploads.SetAside) bool { return m.Number == number })
	return nil
}

// Replay forgets one of them, if it is whole.
func (p port) Replay(ctx context.Context, number int64) error {
	m, err := p.SetAsideMessage(ctx, number)
	if err == nil && !m.Whole() {
		err = uploads.ErrNotWhole
	}
	if err != nil {
		return err
	}
	return p.DropSetAside(ctx, number)
}
