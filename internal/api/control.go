package api

import (
	"context"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// controls are the use cases that pause, resume, cancel and retry.
type controls interface {
	// Change does the action to one upload. It may be repeated.
	Change(ctx context.Context, action uploads.Action, tenant string, id uploads.ID, note uploads.Note) (uploads.Upload, error)
	// ChangeMatching does the action to all uploads of the filter, batch by
	// batch; after an error it may be repeated for the rest.
	ChangeMatching(ctx context.Context, action uploads.Action, f uploads.Filter, note uploads.Note, dryRun bool) (uploads.Changed, error)
	PauseAccount(ctx context.Context, tenant, name string, note uploads.Note) (uploads.AccountStatus, error)
	ResumeAccount(ctx context.Context, tenant, name string) (uploads.AccountStatus, error)
	PauseTenant(ctx context.Context, name string, note uploads.Note) (uploads.TenantStatus, error)
	ResumeTenant(ctx context.Context, name string) (uploads.TenantStatus, error)
}

func (s *server) registerControls(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	for _, action := range uploads.Actions() {
		name := string(action)
		verb := strings.ToUpper(name[:1]) + name[1:]
		huma.Register(api, op("POST", "/v1/uploads/{id}/"+name, name,
			verb+" an upload", 404, 409, 422, 503), s.change(action))
		huma.Register(api, op("POST", "/v1/uploads/"+name, name+"-matching",
			verb+" the uploads that a filter selects", 422, 503), s.changeMatching(action))
	}
	huma.Register(api, op("POST", "/v1/accounts/{name}/pause", "pause-account",
		"Pause an account", 404, 422, 503), s.pauseAccount)
	huma.Register(api, op("POST", "/v1/accounts/{name}/resume", "resume-account",
		"Resume an account", 404, 422, 503), s.resumeAccount)
	huma.Register(api, op("POST", "/v1/tenants/{name}/pause", "pause-tenant",
		"Pause all accounts of a tenant", 404, 422, 503), s.pauseTenant)
	huma.Register(api, op("POST", "/v1/tenants/{name}/resume", "resume-tenant",
		"Resume a tenant", 404, 422, 503), s.resumeTenant)
}

type changeOneRequest struct {
	UploadParam
	Body *wire.Note
}

// change answers with the upload as the action left it.
func (s *server) change(action uploads.Action) func(context.Context, *changeOneRequest) (*uploadAnswer, error) {
	return func(ctx context.Context, in *changeOneRequest) (*uploadAnswer, error) {
		return s.one(ctx, string(action), &in.UploadParam, func(ctx context.Context, tenant string, id uploads.ID) (uploads.Upload, error) {
			return s.uc.Change(ctx, action, tenant, id, noteOf(in.Body))
		})
	}
}

type changeRequest struct {
	TenantParam
	Body wire.Change
}

type changedAnswer struct {
	Body wire.Changed
}

func (s *server) changeMatching(action uploads.Action) func(context.Context, *changeRequest) (*changedAnswer, error) {
	return func(ctx context.Context, in *changeRequest) (*changedAnswer, error) {
		name := string(action) + "-matching"
		f := uploads.Filter{Tenant: in.Tenant, Account: in.Body.Account, Labels: in.Body.Labels}
		for _, state := range in.Body.States {
			f.States = append(f.States, uploads.State(state))
		}
		for _, cause := range in.Body.Causes {
			f.Causes = append(f.Causes, uploads.Cause(cause))
		}
		var err error
		if f.Batch, err = parseID("batch", in.Body.Batch); err != nil {
			return nil, s.problem(name, err)
		}
		if f.SelectsAll() != in.Body.All {
			return nil, s.problem(name, &uploads.FieldError{
				Field: "all", Detail: "goes without any filter, and no filter goes without it; give one of both",
			})
		}
		done, err := s.uc.ChangeMatching(ctx, action, f, uploads.Note{Reason: in.Body.Reason, By: in.Body.By}, in.Body.DryRun)
		if err != nil {
			return nil, s.problem(name, err)
		}
		out := wire.Changed{DryRun: in.Body.DryRun, Matched: done.Matched, Changed: done.Changed, First: []string{}}
		for _, id := range done.First {
			out.First = append(out.First, id.String())
		}
		return &changedAnswer{Body: out}, nil
	}
}

// AccountParam names an account of the tenant.
type AccountParam struct {
	TenantParam
	Name string `path:"name" doc:"the account's name"`
}

type pauseAccountRequest struct {
	AccountParam
	Body *wire.Note
}

type accountAnswer struct {
	Body wire.Account
}

func (s *server) pauseAccount(ctx context.Context, in *pauseAccountRequest) (*accountAnswer, error) {
	a, err := s.uc.PauseAccount(ctx, in.Tenant, in.Name, noteOf(in.Body))
	if err != nil {
		return nil, s.problem("pause-account", err)
	}
	return &accountAnswer{Body: accountView(a)}, nil
}

func (s *server) resumeAccount(ctx context.Context, in *AccountParam) (*accountAnswer, error) {
	a, err := s.uc.ResumeAccount(ctx, in.Tenant, in.Name)
	if err != nil {
		return nil, s.problem("resume-account", err)
	}
	return &accountAnswer{Body: accountView(a)}, nil
}

// TenantName names the tenant that a request is about. Who may act for one
// tenant alone has it in the header too.
type TenantName struct {
	Tenant string `header:"X-Mediaferry-Tenant" doc:"the same tenant, or nothing"`
	Name   string `path:"name" doc:"the tenant's name"`
}

// check keeps who acts for one tenant from another.
func (t TenantName) check() error {
	if t.Tenant != "" && t.Tenant != t.Name {
		return uploads.ErrNoTenant
	}
	return nil
}

type pauseTenantRequest struct {
	TenantName
	Body *wire.Note
}

type tenantAnswer struct {
	Body wire.Tenant
}

func (s *server) pauseTenant(ctx context.Context, in *pauseTenantRequest) (*tenantAnswer, error) {
	if err := in.check(); err != nil {
		return nil, s.problem("pause-tenant", err)
	}
	t, err := s.uc.PauseTenant(ctx, in.Name, noteOf(in.Body))
	if err != nil {
		return nil, s.problem("pause-tenant", err)
	}
	return &tenantAnswer{Body: tenantView(t)}, nil
}

func (s *server) resumeTenant(ctx context.Context, in *TenantName) (*tenantAnswer, error) {
	if err := in.check(); err != nil {
		return nil, s.problem("resume-tenant", err)
	}
	t, err := s.uc.ResumeTenant(ctx, in.Name)
	if err != nil {
		return nil, s.problem("resume-tenant", err)
	}
	return &tenantAnswer{Body: tenantView(t)}, nil
}

func noteOf(body *wire.Note) uploads.Note {
	if body == nil {
		return uploads.Note{}
	}
	return uploads.Note(*body)
}

func tenantView(t uploads.TenantStatus) wire.Tenant {
	out := wire.Tenant{Name: t.Name, Accounts: t.Accounts, Paused: t.Pause != nil}
	if t.Pause != nil {
		out.Pause = &pauseViews([]uploads.Pause{*t.Pause})[0]
	}
	return out
}

func pauseViews(pauses []uploads.Pause) []wire.Pause {
	var out []wire.Pause
	for _, p := range pauses {
		out = append(out, wire.Pause{Scope: string(p.Scope), Name: p.Name, Reason: p.Reason, By: p.By, At: p.At.UTC()})
	}
	return out
}
