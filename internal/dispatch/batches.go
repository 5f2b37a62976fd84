package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"mediaferry/internal/uploads"
)

type batchStore interface {
	InsertBatch(ctx context.Context, b *uploads.NewBatch) (id uploads.ID, created bool, err error)
	BatchByKey(ctx context.Context, tenant, key string, requestHash []byte) (id uploads.ID, found bool, err error)
	Batch(ctx context.Context, tenant string, id uploads.ID) (uploads.Batch, error)
	Batches(ctx context.Context, f uploads.BatchFilter) ([]uploads.Batch, error)
}

// SubmitBatch accepts one object, or those below a prefix, for several accounts:
// all uploads or none, in one transaction, durable on return. Of a prefix, what
// an account cannot take is listed with the batch and the rest is accepted; of
// one object, every account must take it. What is wrong is a join of
// *uploads.FieldError. It may be repeated under one idempotency key: created is
// false the second time, and another submission under the key is
// uploads.ErrKeyTaken.
func (d *Dispatcher) SubmitBatch(ctx context.Context, s uploads.BatchSubmission) (b uploads.Batch, created bool, err error) {
	if err := d.checkBatch(&s); err != nil {
		return b, false, err
	}
	hash, err := batchHash(s)
	if err != nil {
		return b, false, err
	}
	if s.IdempotencyKey != "" {
		// Before staging is asked: what is there may be something else by now.
		id, found, err := d.store.BatchByKey(ctx, s.Tenant, s.IdempotencyKey, hash)
		if err != nil {
			return b, false, err
		}
		if found {
			b, err = d.store.Batch(ctx, s.Tenant, id)
			return b, false, err
		}
	}
	if err := d.queue.closed(); err != nil {
		return b, false, err
	}
	batch := &uploads.NewBatch{RequestHash: hash, Batch: uploads.Batch{
		Tenant: s.Tenant, IdempotencyKey: s.IdempotencyKey, Source: s.Source, Prefix: s.Prefix,
	}}
	if batch.ID, err = uploads.NewID(); err != nil {
		return b, false, err
	}
	if s.Prefix {
		err = d.fillFromPrefix(ctx, batch, s)
	} else {
		err = d.fillFromObject(ctx, batch, s)
	}
	if err != nil {
		return b, false, err
	}
	id, created, err := d.store.InsertBatch(ctx, batch)
	if err != nil {
		return b, false, err
	}
	d.opens.wake()
	b, err = d.store.Batch(ctx, s.Tenant, id)
	return b, created, err
}

// checkBatch fills defaults and checks what can be told without staging. What is
// wrong for every account alike is told once.
func (d *Dispatcher) checkBatch(s *uploads.BatchSubmission) error {
	errs := []error{s.Validate()}
	seen := map[string]bool{}
	for i, account := range s.Accounts {
		one := s.For(account)
		if s.Prefix {
			one.Name = "prefix" // each object has its own
			if one.Source.Key == "" {
				one.Source.Key = "/" // the whole bucket
			}
		}
		one.IdempotencyKey = s.IdempotencyKey
		_, err := d.checkSubmission(&one)
		for _, f := range uploads.FieldErrors(err) {
			if f.Field == "account" {
				f = &uploads.FieldError{Field: fmt.Sprintf("accounts[%d]", i), Detail: f.Detail}
			}
			if !seen[f.Error()] {
				seen[f.Error()] = true
				errs = append(errs, f)
			}
		}
	}
	return errors.Join(errs...)
}

// fillFromObject makes an upload of the object for each account.
func (d *Dispatcher) fillFromObject(ctx context.Context, b *uploads.NewBatch, s uploads.BatchSubmission) error {
	object, err := d.staging.Stat(ctx, s.Source.Bucket, s.Source.Key)
	if err != nil {
		return sourceError(s.Source, err)
	}
	if err := found(&s.Submission, map[place]uploads.Object{{object.Bucket, object.Key}: object}); err != nil {
		return err
	}
	var errs []error
	for _, name := range s.Accounts {
		account, one := d.accounts[name], s.For(name)
		err := errors.Join(d.checkObject(account, one), d.checkAttachments(ctx, account, one))
		if _, away := errors.AsType[*uploads.UnavailableError](err); away {
			return err
		}
		for _, f := range uploads.FieldErrors(err) {
			errs = append(errs, &uploads.FieldError{Field: f.Field, Detail: fmt.Sprintf("%s (account %s)", f.Detail, name)})
		}
		if err := d.add(b, account, one); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// fillFromPrefix makes an upload of each object for each account that takes it.
func (d *Dispatcher) fillFromPrefix(ctx context.Context, b *uploads.NewBatch, s uploads.BatchSubmission) error {
	names := make(map[string]taken, len(s.Accounts))
	for _, name := range s.Accounts {
		account := d.accounts[name]
		if d.providers[account.Provider].Limits().UniqueNames {
			names[name] = taken{}
		}
		if err := d.checkAttachments(ctx, account, s.For(name)); err != nil {
			return err
		}
	}
	seen := 0
	err := d.staging.List(ctx, s.Source.Bucket, s.Source.Key, func(o uploads.Object) error {
		if d.ofAnother(s.Tenant, o) {
			return nil // not even its name is told
		}
		seen++
		for _, name := range s.Accounts {
			if len(b.Items) == uploads.MaxBulk || b.Rejected == uploads.MaxBulk {
				return &uploads.FieldError{Field: "source.prefix", Detail: fmt.Sprintf(
					"comes to more than %d uploads, which is the most of one batch; submit longer prefixes one by one", uploads.MaxBulk)}
			}
			account, one := d.accounts[name], s.For(name)
			one.Source, one.Name = o, path.Base(o.Key)
			if why := names[name].refuse(one, errors.Join(one.Validate(), d.checkObject(account, one))); why != "" {
				if b.Rejected++; len(b.FirstRejected) < uploads.MaxRejected {
					b.FirstRejected = append(b.FirstRejected, uploads.Rejected{Key: o.Key, Account: name, Err: why})
				}
				continue
			}
			if err := d.add(b, account, one); err != nil {
				return err
			}
		}
		return nil
	})
	switch field, ours := errors.AsType[*uploads.FieldError](err); {
	case ours:
		return field
	case err != nil:
		return sourceError(uploads.Object{Bucket: s.Source.Bucket, Key: s.Source.Key}, err)
	case seen == 0:
		return &uploads.FieldError{Field: "source.prefix", Detail: fmt.Sprintf("s3://%s/%s has no object; put them there first, or mend bucket and prefix",
			s.Source.Bucket, s.Source.Key)}
	case len(b.Items) == 0:
		return &uploads.FieldError{Field: "source.prefix", Detail: fmt.Sprintf("has %d objects, and no account takes one of them; the first is %s: %s",
			seen, b.FirstRejected[0].Key, b.FirstRejected[0].Err)}
	}
	return nil
}

func (d *Dispatcher) add(b *uploads.NewBatch, account Account, s uploads.Submission) error {
	it, err := itemOf(s)
	if err != nil {
		return err
	}
	b.Items = append(b.Items, uploads.BulkItem{
		Number: len(b.Items) + 1, Submission: s, Provider: account.Provider, Pool: account.Pool,
		KnownBy: string(d.providers[account.Provider].Limits().KnownBy), IntakeItem: it,
	})
	return nil
}

// batchHash covers everything that the submitter said, in whatever order it
// named the accounts and digests.
func batchHash(s uploads.BatchSubmission) ([]byte, error) {
	one := s.Hash()
	raw, err := json.Marshal(struct {
		Common   []byte
		Prefix   bool
		Accounts []string
		Options  map[string]map[string]string
	}{one, s.Prefix, slices.SortedFunc(slices.Values(s.Accounts), strings.Compare), s.AccountOptions})
	if err != nil {
		return nil, fmt.Errorf("hash a batch: %w", err)
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}

// Batch returns a batch of the tenant and how its uploads stand, or uploads.ErrNoBatch.
func (d *Dispatcher) Batch(ctx context.Context, tenant string, id uploads.ID) (uploads.Batch, error) {
	return d.store.Batch(ctx, tenant, id)
}

// Batches returns a page of batches, newest first, without the states of their uploads.
func (d *Dispatcher) Batches(ctx context.Context, f uploads.BatchFilter) ([]uploads.Batch, error) {
	return d.store.Batches(ctx, f)
}
