package api

import (
	"context"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// recoveryCases is what an operator asks of a dispatcher after something went
// wrong around it.
type recoveryCases interface {
	// Reconcile puts right where record and platform differ: durable on return. It
	// may be repeated. next is the After of the next page, zero on the last.
	Reconcile(ctx context.Context, r uploads.Reconciliation) (findings []uploads.Finding, next uploads.ID, err error)
	// ListSetAside lists messages, newest first, without their payloads.
	ListSetAside(ctx context.Context, before int64, limit int) ([]uploads.SetAside, error)
	SetAsideMessage(ctx context.Context, number int64) (uploads.SetAside, error)
	DropSetAside(ctx context.Context, number int64) error
	// Replay puts a message back on its stream and then forgets it. A crash between
	// the two leaves it in both places.
	Replay(ctx context.Context, number int64) error
}

type reconcileRequest struct {
	TenantParam
	Body wire.Reconciliation
}

type reconcileAnswer struct {
	Body wire.ReconciliationResult
}

func (s *server) reconcile(ctx context.Context, in *reconcileRequest) (*reconcileAnswer, error) {
	b := in.Body
	r := uploads.Reconciliation{Tenant: in.Tenant, Account: b.Account, All: b.All, DryRun: b.DryRun, Restored: b.Restored}
	var err error
	if r.Upload, err = parseID("upload", b.Upload); err != nil {
		return nil, s.problem("reconcile", err)
	}
	if r.After, err = parseID("after", b.After); err != nil {
		return nil, s.problem("reconcile", err)
	}
	findings, next, err := s.uc.Reconcile(ctx, r)
	if err != nil {
		return nil, s.problem("reconcile", err)
	}
	out := wire.ReconciliationResult{Findings: []wire.Finding{}, Next: idText(next)}
	for _, f := range findings {
		out.Findings = append(out.Findings, wire.Finding{
			Upload: f.Upload.String(), Account: f.Account, State: string(f.State), Epoch: f.Epoch, LedgerParts: f.Parts,
			PartCount: f.PartCount, Holding: f.Holding, Listed: f.Listed, PlatformParts: f.PlatformParts,
			Action: string(f.Action), Evidence: f.Evidence,
		})
	}
	return &reconcileAnswer{Body: out}, nil
}

type setAsideListRequest struct {
	Before int64 `query:"before" minimum:"1" doc:"next of the page before"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type setAsideListAnswer struct {
	Body wire.SetAsideList
}

func (s *server) setAsideList(ctx context.Context, in *setAsideListRequest) (*setAsideListAnswer, error) {
	found, err := s.uc.ListSetAside(ctx, in.Before, in.Limit)
	if err != nil {
		return nil, s.problem("list-set-aside", err)
	}
	out := wire.SetAsideList{Messages: []wire.SetAside{}}
	for _, m := range found {
		out.Messages = append(out.Messages, setAsideView(m))
	}
	if len(found) == in.Limit {
		out.Next = found[len(found)-1].Number
	}
	return &setAsideListAnswer{Body: out}, nil
}

// SetAsideParam names a message that is set aside.
type SetAsideParam struct {
	Number int64 `path:"number" minimum:"1" doc:"the message's number"`
}

type setAsideAnswer struct {
	Body wire.SetAside
}

func (s *server) setAsideShow(ctx context.Context, in *SetAsideParam) (*setAsideAnswer, error) {
	m, err := s.uc.SetAsideMessage(ctx, in.Number)
	if err != nil {
		return nil, s.problem("show-set-aside", err)
	}
	return &setAsideAnswer{Body: setAsideView(m)}, nil
}

func (s *server) setAsideDrop(ctx context.Context, in *SetAsideParam) (*struct{}, error) {
	if err := s.uc.DropSetAside(ctx, in.Number); err != nil {
		return nil, s.problem("drop-set-aside", err)
	}
	return nil, nil // 204
}

func (s *server) setAsideReplay(ctx context.Context, in *SetAsideParam) (*struct{}, error) {
	if err := s.uc.Replay(ctx, in.Number); err != nil {
		return nil, s.problem("replay-set-aside", err)
	}
	return nil, nil // 204
}

func setAsideView(m uploads.SetAside) wire.SetAside {
	return wire.SetAside{
		Number: m.Number, Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Published: utc(m.Published), Headers: m.Headers,
		Payload: m.Payload, Size: m.Size, Reason: m.Reason, Worker: m.Worker, At: utc(m.At),
	}
}
