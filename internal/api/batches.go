package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// batchCases are the use cases of uploads that are submitted together.
type batchCases interface {
	// SubmitBatch accepts all uploads or none: durable on return. created is
	// false where an equal batch is there under its idempotency key.
	SubmitBatch(ctx context.Context, s uploads.BatchSubmission) (b uploads.Batch, created bool, err error)
	Batch(ctx context.Context, tenant string, id uploads.ID) (uploads.Batch, error)
	Batches(ctx context.Context, f uploads.BatchFilter) ([]uploads.Batch, error)
}

func (s *server) registerBatches(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	submit := op("POST", "/v1/batches", "submit-batch",
		"Submit staging objects, or every one below prefixes, for several accounts", 409, 413, 422, 503)
	submit.MaxBodyBytes = maxBatchBody
	submit.Middlewares = huma.Middlewares{s.oneLarge(api)}
	huma.Register(api, submit, s.submitBatch)
	huma.Register(api, op("GET", "/v1/batches", "list-batches",
		"List batches, newest first", 422, 503), s.batches)
	huma.Register(api, op("GET", "/v1/batches/{id}", "show-batch",
		"Show a batch and how its uploads stand", 404, 422, 503), s.batch)
}

// maxBatchBody is in bytes: ten thousand sources of 400.
const maxBatchBody = 4 << 20

// oneLarge has submissions whose body is larger than others may be take the place
// of a bulk submission.
func (s *server) oneLarge(api huma.API) func(huma.Context, func(huma.Context)) {
	one := s.oneBulk(api)
	return func(ctx huma.Context, next func(huma.Context)) {
		if r, _ := humago.Unwrap(ctx); r.ContentLength >= 0 && r.ContentLength <= maxBody {
			next(ctx)
			return
		}
		one(ctx, next)
	}
}

type submitBatchRequest struct {
	TenantParam
	Body wire.BatchSubmission
}

type submitBatchAnswer struct {
	Status int // 201 if it is new, 200 if the idempotency key was known
	Body   wire.Batch
}

func (s *server) submitBatch(ctx context.Context, in *submitBatchRequest) (*submitBatchAnswer, error) {
	b := in.Body
	common, err := submission(in.Tenant, wire.Submission{
		Name: b.Name, ContentType: b.ContentType, Options: b.Options, Labels: b.Labels, Priority: b.Priority,
		NotBefore: b.NotBefore, IdempotencyKey: b.IdempotencyKey, Digests: b.Digests,
	})
	if err != nil {
		return nil, s.problem("submit-batch", err)
	}
	sub := uploads.BatchSubmission{Submission: common, Accounts: b.Accounts, AccountOptions: b.AccountOptions}
	single, err := batchSource("source", b.Source)
	if err == nil && (single.Name != "" || single.ContentType != "") {
		err = &uploads.FieldError{Field: "source", Detail: "goes without name and content_type, which are beside it; only sources have their own"}
	}
	sub.Source, sub.Prefix, sub.Match = single.Source, single.Prefix, single.Match
	errs := []error{err}
	for i, source := range b.Sources {
		one, err := batchSource(fmt.Sprintf("sources[%d]", i), source)
		errs, sub.Sources = append(errs, err), append(sub.Sources, one)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, s.problem("submit-batch", err)
	}
	batch, created, err := s.uc.SubmitBatch(ctx, sub)
	if err != nil {
		return nil, s.problem("submit-batch", err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return &submitBatchAnswer{Status: status, Body: batchView(batch)}, nil
}

// batchSource reads the wire form of a source at a place in the request.
func batchSource(place string, b wire.BatchSource) (uploads.BatchSource, error) {
	out := uploads.BatchSource{
		Source: uploads.Object{Bucket: b.Bucket, Key: b.Key, Version: b.Version, ETag: b.ETag},
		Match:  b.Match, Name: b.Name, ContentType: b.ContentType,
	}
	if b.Prefix == nil {
		return out, nil
	}
	if b.Key != "" || b.Version != "" || b.ETag != "" {
		return out, &uploads.FieldError{Field: place + ".prefix", Detail: "goes without key, version and etag, which name one object; give one of both"}
	}
	out.Prefix, out.Source.Key = true, *b.Prefix
	return out, nil
}

type batchesRequest struct {
	TenantParam
	Account string `query:"account" doc:"only batches with uploads to this account"`
	After   string `query:"after" format:"uuid" doc:"next of the page before"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type batchesAnswer struct {
	Body wire.BatchList
}

func (s *server) batches(ctx context.Context, in *batchesRequest) (*batchesAnswer, error) {
	after, err := parseID("query.after", in.After)
	if err != nil {
		return nil, s.problem("list-batches", err)
	}
	found, err := s.uc.Batches(ctx, uploads.BatchFilter{Tenant: in.Tenant, Account: in.Account, After: after, Limit: in.Limit})
	if err != nil {
		return nil, s.problem("list-batches", err)
	}
	out := wire.BatchList{Batches: make([]wire.Batch, len(found))}
	for i, b := range found {
		out.Batches[i] = batchView(b)
	}
	if len(found) == in.Limit {
		out.Next = idText(found[len(found)-1].ID)
	}
	return &batchesAnswer{Body: out}, nil
}

// BatchParam names a batch of the tenant.
type BatchParam struct {
	TenantParam
	ID string `path:"id" format:"uuid" doc:"the batch's id"`
}

type batchAnswer struct {
	Body wire.Batch
}

func (s *server) batch(ctx context.Context, in *BatchParam) (*batchAnswer, error) {
	id, err := parseID("id", in.ID)
	if err != nil {
		return nil, s.problem("show-batch", err)
	}
	b, err := s.uc.Batch(ctx, in.Tenant, id)
	if err != nil {
		return nil, s.problem("show-batch", err)
	}
	return &batchAnswer{Body: batchView(b)}, nil
}

// batchView is the wire form of a batch.
func batchView(b uploads.Batch) wire.Batch {
	out := wire.Batch{
		ID: b.ID.String(), Tenant: b.Tenant, IdempotencyKey: b.IdempotencyKey, Accounts: b.Accounts,
		Uploads: b.Uploads, Bytes: b.Bytes, SubmittedAt: b.SubmittedAt.UTC(), Rejected: b.Rejected,
	}
	if b.Source.Bucket != "" {
		out.Source = &wire.BatchSource{Bucket: b.Source.Bucket, Key: b.Source.Key}
		if b.Prefix {
			out.Source.Key, out.Source.Prefix = "", &b.Source.Key
		}
	}
	for _, r := range b.FirstRejected {
		out.FirstRejected = append(out.FirstRejected, wire.Rejected{Key: r.Key, Account: r.Account, Error: r.Err})
	}
	if b.States != nil {
		out.States = make(map[string]wire.BatchPart, len(b.States))
	}
	for state, part := range b.States {
		out.States[string(state)] = wire.BatchPart{Uploads: part.Uploads, Bytes: part.Bytes}
		out.AckedBytes += part.AckedBytes
		if state.Active() {
			out.Open += part.Uploads
		}
	}
	return out
}
