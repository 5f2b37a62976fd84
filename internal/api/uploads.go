package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

// TenantParam is what every request carries. Exported, as UploadParam is,
// since only exported embedded structs are seen by the framework.
type TenantParam struct {
	Tenant string `header:"X-Mediaferry-Tenant" default:"default" doc:"whose uploads and accounts the request is about"`
}

// UploadParam names an upload of the tenant.
type UploadParam struct {
	TenantParam
	ID string `path:"id" format:"uuid" doc:"the upload's id"`
}

type uploadAnswer struct {
	Body wire.Upload
}

type submitRequest struct {
	TenantParam
	Body wire.Submission
}

type submitAnswer struct {
	Status int // 201 if it is new, 200 if the idempotency key was known
	Body   wire.Upload
}

func (s *server) submit(ctx context.Context, in *submitRequest) (*submitAnswer, error) {
	sub, err := submission(in.Tenant, in.Body)
	if err != nil {
		return nil, s.problem("submit", err)
	}
	u, created, err := s.uc.Submit(ctx, sub)
	if err != nil {
		return nil, s.problem("submit", err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return &submitAnswer{Status: status, Body: view(u)}, nil
}

type prefixRequest struct {
	TenantParam
	Body wire.PrefixSubmission
}

type prefixAnswer struct {
	Body wire.PrefixResult
}

func (s *server) submitPrefix(ctx context.Context, in *prefixRequest) (*prefixAnswer, error) {
	b := in.Body
	res, err := s.uc.SubmitPrefix(ctx, uploads.Submission{
		Tenant: in.Tenant, Account: b.Account, Source: uploads.Object{Bucket: b.Bucket, Key: b.Prefix},
		ContentType: b.ContentType, Options: b.Options, Labels: b.Labels, Priority: b.Priority, NotBefore: b.NotBefore,
	}, b.Match)
	if fields := uploads.FieldErrors(err); len(fields) > 0 {
		err = prefixFields(fields)
	}
	if err != nil {
		return nil, s.problem("submit-prefix", err)
	}
	out := wire.PrefixResult{Batch: idText(res.Batch), Submitted: res.Submitted, Rejected: []wire.Rejected{}}
	for _, r := range res.Rejected {
		out.Rejected = append(out.Rejected, wire.Rejected{Key: r.Key, Error: r.Err})
	}
	return &prefixAnswer{Body: out}, nil
}

// prefixFields is what is wrong with a prefix by the names that the request has.
func prefixFields(fields []*uploads.FieldError) error {
	var errs []error
	for _, f := range fields {
		switch f.Field {
		case "source.bucket":
			f = &uploads.FieldError{Field: "bucket", Detail: f.Detail}
		case "source.key":
			f = &uploads.FieldError{Field: "prefix", Detail: f.Detail}
		}
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (s *server) show(ctx context.Context, in *UploadParam) (*uploadAnswer, error) {
	return s.one(ctx, "show", in, s.uc.Upload)
}

// one answers with the upload that call returns for the request's id.
func (s *server) one(ctx context.Context, name string, in *UploadParam,
	call func(context.Context, string, uploads.ID) (uploads.Upload, error),
) (*uploadAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem(name, err)
	}
	u, err := call(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem(name, err)
	}
	return &uploadAnswer{Body: view(u)}, nil
}

type listRequest struct {
	TenantParam
	Account string   `query:"account" doc:"only uploads to this account"`
	State   []string `query:"state" enum:"queued,digesting,beginning,uploading,finishing,completed,failed,cancelled" doc:"only uploads in one of these states"`
	Batch   string   `query:"batch" format:"uuid" doc:"only uploads of this batch"`
	Cause   []string `query:"cause" doc:"only failed uploads with one of these causes"`
	Label   []string `query:"label,explode" doc:"only uploads with this label, as key=value; give it again for another one"`
	Paused  string   `query:"paused" enum:"true,false" doc:"only uploads that are paused themselves, or are not"`
	Search  string   `query:"search" maxLength:"200" doc:"only uploads with this in their name or their source's key, in whatever case"`
	After   string   `query:"after" format:"uuid" doc:"next of the page before"`
	Limit   int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type listAnswer struct {
	Body wire.UploadList
}

func (s *server) list(ctx context.Context, in *listRequest) (*listAnswer, error) {
	f := uploads.Filter{Tenant: in.Tenant, Account: in.Account, Search: in.Search, Limit: in.Limit}
	for _, state := range in.State {
		f.States = append(f.States, uploads.State(state))
	}
	for _, cause := range in.Cause {
		f.Causes = append(f.Causes, uploads.Cause(cause))
	}
	for _, label := range in.Label {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return nil, s.problem("list", &uploads.FieldError{Field: "query.label", Detail: "is not a label; give key=value"})
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[key] = value
	}
	if in.Paused != "" {
		paused := in.Paused == "true"
		f.Paused = &paused
	}
	var err error
	if f.Batch, err = parseID("query.batch", in.Batch); err != nil {
		return nil, s.problem("list", err)
	}
	if f.After, err = parseID("query.after", in.After); err != nil {
		return nil, s.problem("list", err)
	}
	found, err := s.uc.Uploads(ctx, f)
	if err != nil {
		return nil, s.problem("list", err)
	}
	out := wire.UploadList{Uploads: []wire.Upload{}}
	for _, u := range found {
		out.Uploads = append(out.Uploads, view(u))
	}
	if len(found) == f.Limit {
		out.Next = found[len(found)-1].ID.String()
	}
	return &listAnswer{Body: out}, nil
}

type workersAnswer struct {
	Body wire.WorkerList
}

func (s *server) workers(ctx context.Context, _ *struct{}) (*workersAnswer, error) {
	out := wire.WorkerList{Workers: []wire.Worker{}}
	for _, w := range s.uc.Workers(ctx) {
		out.Workers = append(out.Workers, wire.Worker{
			ID: w.ID, Pool: w.Pool, Slots: w.Slots, Busy: w.Busy, BytesMoved: w.BytesMoved, Version: w.Version, SeenAt: w.SeenAt.UTC(),
		})
	}
	return &workersAnswer{Body: out}, nil
}

type accountsAnswer struct {
	Body wire.AccountList
}

func (s *server) accounts(ctx context.Context, in *TenantParam) (*accountsAnswer, error) {
	all, err := s.uc.Accounts(ctx)
	if err != nil {
		return nil, s.problem("accounts", err)
	}
	out := wire.AccountList{Accounts: []wire.Account{}}
	for _, a := range all {
		if a.Tenant != in.Tenant {
			continue
		}
		out.Accounts = append(out.Accounts, accountView(a))
	}
	return &accountsAnswer{Body: out}, nil
}

// accountView is the wire form of an account.
func accountView(a uploads.AccountStatus) wire.Account {
	out := wire.Account{
		Name: a.Name, Provider: a.Provider, Pool: a.Pool, Window: a.Window, InFlight: a.InFlight, Active: a.Active,
		MaxWindow: a.MaxWindow, Goodput: a.Goodput, CutAt: utc(a.CutAt), CutFor: a.CutFor,
		Paused: len(a.Pauses) > 0, Pauses: pauseViews(a.Pauses),
	}
	for _, h := range a.Held {
		out.Held = append(out.Held, wire.HeldCall{Call: h.Call, Until: utc(h.Until), Why: h.Why, DownSince: utc(h.Down), Asked: h.Asked})
	}
	for _, r := range a.Rates {
		out.Rates = append(out.Rates, wire.CallRate{Call: r.Call, Count: r.Count, PeriodSeconds: r.Per.Seconds(), Spent: r.Spent})
	}
	return out
}

// submission reads the wire form; what it says is checked by the use case.
func submission(tenant string, b wire.Submission) (uploads.Submission, error) {
	sub := uploads.Submission{
		Tenant: tenant, Account: b.Account, IdempotencyKey: b.IdempotencyKey,
		Source: uploads.Object{Bucket: b.Source.Bucket, Key: b.Source.Key, Version: b.Source.Version, ETag: b.Source.ETag},
		Name:   b.Name, ContentType: b.ContentType, Options: b.Options, Labels: b.Labels,
		Priority: b.Priority, NotBefore: b.NotBefore,
	}
	for i, text := range b.Digests {
		d, err := hashing.Parse(text)
		if err != nil {
			return uploads.Submission{}, &uploads.FieldError{
				Field:  fmt.Sprintf("digests[%d]", i),
				Detail: err.Error() + "; give for example sha256 and 64 hex digits",
			}
		}
		sub.Digests = append(sub.Digests, d)
	}
	return sub, nil
}

// view is the wire form of an upload.
func view(u uploads.Upload) wire.Upload {
	out := wire.Upload{
		ID: u.ID.String(), Tenant: u.Tenant, Account: u.Account, Provider: u.Provider, Batch: idText(u.Batch),
		IdempotencyKey: u.IdempotencyKey, Source: wire.Object(u.Source), Name: u.Name, ContentType: u.ContentType,
		Options: u.Options, Labels: u.Labels, Priority: u.Priority, NotBefore: utc(u.NotBefore),
		State: string(u.State), Epoch: u.Epoch, PartSize: u.PartSize, PartCount: u.PartCount,
		AckedParts: u.AckedParts, AckedBytes: u.AckedBytes, FoundBytes: u.FoundBytes,
		DigestedBytes: u.DigestedBytes, Instant: u.Instant(),
		SubmittedAt: utc(u.SubmittedAt), BegunAt: utc(u.BegunAt), FirstAckAt: utc(u.FirstAckAt),
		LastAckAt: utc(u.LastAckAt), FinishedAt: utc(u.FinishedAt), NextActionAt: utc(u.NextActionAt),
		Paused: len(u.Pauses) > 0, Pauses: pauseViews(u.Pauses), Cancelling: u.CancelDue,
		WaitsFor: idText(u.WaitsFor),
	}
	if u.Asset != nil {
		out.Asset = &wire.Asset{ID: u.Asset.ID, URL: u.Asset.URL, Detail: u.Asset.Detail}
	}
	if u.Failure != nil {
		out.Failure = &wire.Failure{
			Cause: string(u.Failure.Cause), Code: u.Failure.Code, Message: u.Failure.Message, Part: u.Failure.Part,
			Stage: string(u.Failure.Stage),
		}
		for _, n := range u.Failure.Evidence {
			out.Failure.Evidence = append(out.Failure.Evidence, wire.Evidence(n))
		}
	}
	return out
}

// utc keeps the zero time zero, so that it is left out of the answer.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func idText(id uploads.ID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// parseID reads an id; "" is the zero one.
func parseID(field, text string) (uploads.ID, error) {
	if text == "" {
		return uploads.ID{}, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uploads.ID{}, &uploads.FieldError{Field: field, Detail: "is not an id; give a UUID"}
	}
	return id, nil
}
