package api

import (
	"context"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/access"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/build"
	"mediaferry/internal/uploads"
)

// pictures are the use cases that say how things stand, for those who watch.
type pictures interface {
	Picture(ctx context.Context, tenant string) (uploads.Picture, error)
	PartMap(ctx context.Context, tenant string, id uploads.ID) (uploads.PartMap, error)
	History(ctx context.Context, tenant string, id uploads.ID) (uploads.History, error)
	FailuresByCause(ctx context.Context, tenant string) (uploads.Failures, error)
}

func (s *server) registerPictures(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	huma.Register(api, op("GET", "/v1/overview", "overview", "Show how everything stands", 503), s.overview)
	huma.Register(api, op("GET", "/v1/uploads/{id}/parts", "parts", "Show where the parts of an upload are", 404, 422, 503), s.partMap)
	huma.Register(api, op("GET", "/v1/uploads/{id}/history", "history", "Show the moves and failed tries of an upload", 404, 422, 503), s.history)
	huma.Register(api, op("GET", "/v1/failures", "failures",
		"Show what fails and why: uploads of the last seven days, tries of the last hour", 503), s.failures)
	huma.Register(api, op("GET", "/v1/access", "access", "Show what the caller may do", 503), s.access)
}

type overviewAnswer struct {
	Body wire.Overview
}

func (s *server) overview(ctx context.Context, in *TenantParam) (*overviewAnswer, error) {
	p, err := s.uc.Picture(ctx, in.Tenant)
	if err != nil {
		return nil, s.problem("overview", err)
	}
	out := wire.Overview{
		At: p.At.UTC(), States: make(map[string]int, len(p.States)), CountedSince: p.Since.UTC(),
		Moved: make([]wire.Moved, len(p.Moved)), MovedStep: p.MovedStep.Seconds(), Queued: p.Queued,
	}
	for state, n := range p.States {
		out.States[string(state)] = n
	}
	for i, m := range p.Moved {
		out.Moved[i] = wire.Moved{At: m.At.UTC(), Bytes: m.Bytes}
	}
	return &overviewAnswer{Body: out}, nil
}

type partMapAnswer struct {
	Body wire.PartMap
}

func (s *server) partMap(ctx context.Context, in *UploadParam) (*partMapAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("parts", err)
	}
	m, err := s.uc.PartMap(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem("parts", err)
	}
	out := wire.PartMap{
		Epoch: m.Epoch, PartSize: m.PartSize, PartCount: m.PartCount,
		Ranges: make([]wire.PartRange, len(m.Ranges)), InHand: make([]wire.PartHand, len(m.Hands)), Failed: make([]wire.PartTries, len(m.Failed)),
	}
	for i, r := range m.Ranges {
		out.Ranges[i] = wire.PartRange{First: r.First, Count: r.Count, State: string(r.State)}
	}
	for i, h := range m.Hands {
		out.InHand[i] = wire.PartHand(h)
	}
	for i, t := range m.Failed {
		out.Failed[i] = wire.PartTries(t)
	}
	return &partMapAnswer{Body: out}, nil
}

type historyAnswer struct {
	Body wire.History
}

func (s *server) history(ctx context.Context, in *UploadParam) (*historyAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("history", err)
	}
	h, err := s.uc.History(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem("history", err)
	}
	out := wire.History{Moves: make([]wire.Move, len(h.Moves)), Tries: make([]wire.Try, len(h.Tries)), TriesCount: h.Count}
	for i, m := range h.Moves {
		out.Moves[i] = wire.Move{From: string(m.From), To: string(m.To), Reason: m.Reason, At: m.At.UTC()}
	}
	for i, t := range h.Tries {
		out.Tries[i] = wire.Try{
			Epoch: t.Epoch, Part: t.Part, Kind: t.Kind, Code: t.Code, Message: t.Message, Worker: t.Worker,
			StartedAt: t.Started.UTC(), FailedAt: t.Failed.UTC(), Excused: t.Excused,
		}
	}
	return &historyAnswer{Body: out}, nil
}

type failuresAnswer struct {
	Body wire.Failures
}

func (s *server) failures(ctx context.Context, in *TenantParam) (*failuresAnswer, error) {
	f, err := s.uc.FailuresByCause(ctx, in.Tenant)
	if err != nil {
		return nil, s.problem("failures", err)
	}
	out := wire.Failures{Since: f.Since.UTC(), Uploads: make([]wire.FailureGroup, len(f.Uploads)), Tries: make([]wire.TryGroup, len(f.Tries))}
	for i, g := range f.Uploads {
		out.Uploads[i] = wire.FailureGroup{
			Cause: string(g.Cause), Account: g.Account, Count: g.Count, LastAt: g.Last.UTC(),
			Example: g.Example.String(), Name: g.Name, Message: g.Message,
		}
	}
	for i, g := range f.Tries {
		out.Tries[i] = wire.TryGroup{
			Account: g.Account, Kind: g.Kind, Code: g.Code, Count: g.Count, Uploads: g.Uploads, LastAt: g.Last.UTC(), Message: g.Message,
		}
	}
	return &failuresAnswer{Body: out}, nil
}

type accessAnswer struct {
	Body wire.Access
}

// access tells the pages what to offer. Its request names no tenant, since
// who asks may not know any yet.
func (s *server) access(ctx context.Context, _ *struct{}) (*accessAnswer, error) {
	all, err := s.uc.Accounts(ctx)
	if err != nil {
		return nil, s.problem("access", err)
	}
	token := access.FromContext(ctx)
	out := wire.Access{Version: build.Version(), Name: token.Name, Scopes: []string{}, Tenants: []string{}}
	for _, scope := range access.Scopes() {
		if token.Has(scope) {
			out.Scopes = append(out.Scopes, string(scope))
		}
	}
	for _, a := range all {
		if token.Allows(a.Tenant) {
			out.Tenants = append(out.Tenants, a.Tenant)
		}
	}
	slices.Sort(out.Tenants)
	out.Tenants = slices.Compact(out.Tenants)
	return &accessAnswer{Body: out}, nil
}
