package apitest

import (
	"bytes"
	"context"
	"path"
	"slices"
	"strings"

	"mediaferry/internal/uploads"
)

// SubmitBatch submits each object to each account; what is refused of one object
// is the whole batch's, and of several it is listed.
func (p port) SubmitBatch(ctx context.Context, s uploads.BatchSubmission) (uploads.Batch, bool, error) {
	if err := s.Validate(); err != nil {
		return uploads.Batch{}, false, err
	}
	p.uc.mu.Lock()
	if err := p.uc.due(); err != nil {
		p.uc.mu.Unlock()
		return uploads.Batch{}, false, err
	}
	for id, key := range p.uc.keys {
		if s.IdempotencyKey != "" && key == s.IdempotencyKey {
			p.uc.mu.Unlock()
			b, err := p.Batch(ctx, s.Tenant, id)
			return b, false, err
		}
	}
	id, err := uploads.NewID()
	if err != nil {
		p.uc.mu.Unlock()
		return uploads.Batch{}, false, err
	}
	sources := s.Sources
	if len(sources) == 0 {
		sources = []uploads.BatchSource{{Source: s.Source, Prefix: s.Prefix, Match: s.Match, Name: s.Name}}
	}
	var rejected []uploads.Rejected
	made := 0
	for _, source := range sources {
		for _, o := range p.uc.below(source) {
			for _, account := range s.Accounts {
				one := s.Of(source).For(account)
				one.Source = o
				switch _, _, err := p.uc.submit(one, id); {
				case err == nil:
					made++
				case len(s.Sources) == 0:
					p.uc.mu.Unlock()
					return uploads.Batch{}, false, err
				default:
					rejected = append(rejected, uploads.Rejected{Key: o.Key, Account: account, Err: err.Error()})
				}
			}
		}
	}
	if made == 0 {
		p.uc.mu.Unlock()
		return uploads.Batch{}, false, &uploads.FieldError{Field: "sources", Detail: "name nothing that an account takes"}
	}
	if p.uc.keys == nil {
		p.uc.keys = map[uploads.ID]string{}
	}
	p.uc.keys[id] = s.IdempotencyKey
	p.uc.mu.Unlock()
	b, err := p.Batch(ctx, s.Tenant, id)
	b.Rejected, b.FirstRejected = len(rejected), rejected
	return b, true, err
}

// below are the objects that a source names; mu is held.
func (uc *UseCases) below(source uploads.BatchSource) []uploads.Object {
	if !source.Prefix {
		return []uploads.Object{source.Source}
	}
	var found []uploads.Object
	for _, o := range uc.Objects {
		if ok, err := path.Match(source.Match, o.Key); source.Match != "" && (!ok || err != nil) {
			continue
		}
		if o.Bucket == source.Source.Bucket && strings.HasPrefix(o.Key, source.Source.Key) {
			found = append(found, uploads.Object{Bucket: o.Bucket, Key: o.Key})
		}
	}
	return found
}

// Batch counts the uploads of a batch.
func (p port) Batch(_ context.Context, tenant string, id uploads.ID) (uploads.Batch, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	b := uploads.Batch{ID: id, Tenant: tenant, IdempotencyKey: p.uc.keys[id], States: map[uploads.State]uploads.BatchPart{}}
	for _, u := range p.uc.all {
		if u.Batch != id || u.Tenant != tenant {
			continue
		}
		part := b.States[u.State]
		b.States[u.State] = uploads.BatchPart{Uploads: part.Uploads + 1, Bytes: part.Bytes + u.Source.Size, AckedBytes: part.AckedBytes + u.AckedBytes}
		b.Uploads, b.Bytes, b.SubmittedAt = b.Uploads+1, b.Bytes+u.Source.Size, u.SubmittedAt
		if !slices.Contains(b.Accounts, u.Account) {
			b.Accounts = append(b.Accounts, u.Account)
		}
	}
	slices.Sort(b.Accounts)
	if b.Uploads == 0 {
		return b, uploads.ErrNoBatch
	}
	return b, p.uc.due()
}

// Batches lists newest first.
func (p port) Batches(ctx context.Context, f uploads.BatchFilter) ([]uploads.Batch, error) {
	ids := map[uploads.ID]bool{}
	p.uc.mu.Lock()
	for _, u := range p.uc.all {
		ids[u.Batch] = u.Tenant == f.Tenant && u.Batch != uploads.ID{}
	}
	p.uc.mu.Unlock()
	var page []uploads.Batch
	for id, ours := range ids {
		if !ours || (f.After != uploads.ID{} && bytes.Compare(id[:], f.After[:]) >= 0) {
			continue
		}
		b, err := p.Batch(ctx, f.Tenant, id)
		if err != nil {
			return nil, err
		}
		if b.States = nil; f.Account == "" || slices.Contains(b.Accounts, f.Account) {
			page = append(page, b)
		}
	}
	slices.SortFunc(page, func(a, b uploads.Batch) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return page[:min(len(page), f.Limit)], p.uc.failure()
}
