package apitest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/uploads"
)

// matches reports whether the filter selects the upload.
func matches(f uploads.Filter, u uploads.Upload) bool {
	own := slices.ContainsFunc(u.Pauses, func(p uploads.Pause) bool { return p.Scope == uploads.ScopeUpload })
	for k, v := range f.Labels {
		if have, ok := u.Labels[k]; !ok || have != v {
			return false
		}
	}
	return u.Tenant == f.Tenant &&
		(f.Account == "" || u.Account == f.Account) &&
		(len(f.States) == 0 || slices.Contains(f.States, u.State)) &&
		(f.Batch == uploads.ID{} || u.Batch == f.Batch) &&
		(len(f.Causes) == 0 || u.Failure != nil && slices.Contains(f.Causes, u.Failure.Cause)) &&
		(f.Paused == nil || *f.Paused == own) &&
		(strings.Contains(strings.ToLower(u.Name), strings.ToLower(f.Search)) || strings.Contains(strings.ToLower(u.Source.Key), strings.ToLower(f.Search)))
}

// Change does the action where that is legal.
func (p port) Change(ctx context.Context, action uploads.Action, tenant string, id uploads.ID, note uploads.Note) (uploads.Upload, error) {
	u, err := p.Upload(ctx, tenant, id)
	if err != nil {
		return u, err
	}
	if err := note.Validate(); err != nil {
		return u, err
	}
	if !slices.Contains(action.States(), u.State) {
		switch {
		case action == uploads.ActionCancel && u.State != uploads.Cancelled:
			return uploads.Upload{}, uploads.ErrFinal
		case action == uploads.ActionPause:
			return uploads.Upload{}, uploads.ErrEnded
		case action == uploads.ActionRetry:
			return uploads.Upload{}, uploads.ErrNotFailed
		}
		return u, nil
	}
	p.uc.Change(id, func(u *uploads.Upload) {
		switch action {
		case uploads.ActionPause:
			u.Pauses = []uploads.Pause{{Scope: uploads.ScopeUpload, Name: id.String(), Note: note, At: time.Now()}}
		case uploads.ActionResume:
			u.Pauses = nil
		case uploads.ActionCancel:
			u.State, u.FinishedAt = uploads.Cancelled, time.Now()
		case uploads.ActionRetry:
			u.State, u.Failure, u.FinishedAt = uploads.Queued, nil, time.Time{}
		}
	})
	return p.Upload(ctx, tenant, id)
}

// ChangeMatching does the action to what the filter selects, from the oldest.
func (p port) ChangeMatching(ctx context.Context, action uploads.Action, f uploads.Filter, note uploads.Note, dryRun bool) (uploads.Changed, error) {
	p.uc.mu.Lock()
	oldestFirst := func(a, b uploads.Upload) int { return bytes.Compare(a.ID[:], b.ID[:]) }
	all := slices.SortedFunc(maps.Values(p.uc.all), oldestFirst)
	p.uc.mu.Unlock()
	var done uploads.Changed
	for _, u := range all {
		if !matches(f, u) || !slices.Contains(action.States(), u.State) {
			continue
		}
		done.Matched++
		done.First = append(done.First, u.ID)
		if dryRun {
			continue
		}
		if _, err := p.Change(ctx, action, f.Tenant, u.ID, note); err != nil {
			return done, err
		}
		done.Changed++
	}
	return done, p.uc.failure()
}

// pauses returns what holds an account.
func (uc *UseCases) pauses(account, tenant string) []uploads.Pause {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	var out []uploads.Pause
	if p, ok := uc.held[uploads.ScopeAccount][account]; ok {
		out = append(out, p)
	}
	if p, ok := uc.held[uploads.ScopeTenant][tenant]; ok {
		out = append(out, p)
	}
	return out
}

func (uc *UseCases) hold(scope uploads.Scope, name string, note *uploads.Note) {
	uc.mu.Lock()
	defer uc.mu.Unlock()
	delete(uc.held[scope], name)
	if note != nil {
		uc.held[scope][name] = uploads.Pause{Scope: scope, Name: name, Note: *note, At: time.Now()}
	}
}

// PauseAccount pauses one of Names.
func (p port) PauseAccount(ctx context.Context, tenant, name string, note uploads.Note) (uploads.AccountStatus, error) {
	return p.account(ctx, tenant, name, &note)
}

// ResumeAccount ends the pause of one of Names.
func (p port) ResumeAccount(ctx context.Context, tenant, name string) (uploads.AccountStatus, error) {
	return p.account(ctx, tenant, name, nil)
}

func (p port) account(ctx context.Context, tenant, name string, note *uploads.Note) (uploads.AccountStatus, error) {
	p.uc.hold(uploads.ScopeAccount, name, note)
	all, err := p.Accounts(ctx)
	i := slices.IndexFunc(all, func(a uploads.AccountStatus) bool { return a.Name == name && a.Tenant == tenant })
	switch {
	case err != nil:
		return uploads.AccountStatus{}, err
	case i < 0:
		return uploads.AccountStatus{}, uploads.ErrNoAccount
	}
	return all[i], nil
}

// PauseTenant pauses the default tenant, the one that there is.
func (p port) PauseTenant(_ context.Context, name string, note uploads.Note) (uploads.TenantStatus, error) {
	return p.tenant(name, &note)
}

// ResumeTenant ends the pause of the default tenant.
func (p port) ResumeTenant(_ context.Context, name string) (uploads.TenantStatus, error) {
	return p.tenant(name, nil)
}

func (p port) tenant(name string, note *uploads.Note) (uploads.TenantStatus, error) {
	if name != "default" {
		return uploads.TenantStatus{}, uploads.ErrNoTenant
	}
	p.uc.hold(uploads.ScopeTenant, name, note)
	status := uploads.TenantStatus{Name: name, Accounts: p.uc.Names}
	if held := p.uc.pauses("", name); len(held) > 0 {
		status.Pause = &held[0]
	}
	return status, p.uc.failure()
}
