package apitest

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"mediaferry/internal/uploads"
)

// SubmitBatch submits each object to each account; what is refused of one object
// is the whole batch's.
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
	keys := []string{s.Source.Key}
	if s.Prefix {
		keys = keys[:0]
		for _, o := range p.uc.Objects {
			if strings.HasPrefix(o.Key, s.Source.Key) {
				keys = append(keys, o.Key)
			}
		}
	}
	for _, account := range s.Accounts {
		for _, key := range keys {
			one := s.For(account)
			one.Source.Key = key
			if _, _, err := p.uc.submit(one, id); err != nil {
				p.uc.mu.Unlock()
				return uploads.Batch{}, false, err
			}
		}
	}
	if p.uc.keys == nil {
		p.uc.keys = map[uploads.ID]string{}
	}
	p.uc.keys[id] = s.IdempotencyKey
	p.uc.mu.Unlock()
	b, err := p.Batch(ctx, s.Tenant, id)
	return b, true, err
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
