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

// SubmitBatch accepts one object, or those below a prefix, or several of both, for
// several accounts: all uploads or none, in one transaction, durable on return. Of
// a prefix and of several, what an account cannot take is listed with the batch
// and the rest is accepted; of one object, every account must take it. What is
// wrong is a join of *uploads.FieldError. It may be repeated under one idempotency
// key: created is false the second time, and another submission under the key is
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
	switch {
	case len(s.Sources) > 0:
		err = d.fillFromSources(ctx, batch, s)
	case s.Prefix:
		err = d.fillFromPrefix(ctx, batch, s)
	default:
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
	if len(s.Sources) > uploads.MaxBatchSources {
		return errors.Join(errs...)
	}
	seen := map[string]bool{}
	note := func(f *uploads.FieldError) {
		if !seen[f.Error()] {
			seen[f.Error()] = true
			errs = append(errs, f)
		}
	}
	of := func(source uploads.BatchSubmission, account string) error {
		one := source.For(account)
		if source.Prefix || one.Name == "" {
			one.Name = "film" // each object has its own
		}
		if source.Prefix && one.Source.Key == "" {
			one.Source.Key = "/" // the whole bucket
		}
		one.IdempotencyKey = s.IdempotencyKey
		_, err := d.checkSubmission(&one)
		return err
	}
	first := *s
	if len(s.Sources) > 0 {
		first = s.Of(s.Sources[0])
	}
	for i, account := range s.Accounts {
		for _, f := range uploads.FieldErrors(of(first, account)) {
			if option, ok := strings.CutPrefix(f.Field, "options."); ok {
				if _, own := s.AccountOptions[account][option]; own {
					f = ofAccount(*s, account, f)
				}
			}
			switch {
			case f.Field == "account":
				note(&uploads.FieldError{Field: fmt.Sprintf("accounts[%d]", i), Detail: f.Detail})
			case len(s.Sources) == 0 || !ofSource(f.Field):
				note(f)
			}
		}
	}
	for i, source := range s.Sources {
		one := s.Of(source)
		place := fmt.Sprintf("sources[%d].", i)
		wrong := one.Validate()
		for _, f := range uploads.FieldErrors(errors.Join(wrong, of(one, ""))) {
			if ofSource(f.Field) {
				note(&uploads.FieldError{Field: place + strings.TrimPrefix(f.Field, "source."), Detail: f.Detail})
			}
		}
		if len(errs) > maxTold {
			break
		}
	}
	return errors.Join(errs...)
}

// maxTold is how many errors of a batch's sources are told at once.
const maxTold = 100

// ofSource reports whether a field is of one source of a batch.
func ofSource(field string) bool {
	return strings.HasPrefix(field, "source.") || field == "name" || field == "content_type"
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
			errs = append(errs, ofAccount(s, name, f))
		}
		if err := d.add(b, account, one); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// ofAccount is what is wrong for one account of a batch: with an option of its own
// where it has that.
func ofAccount(s uploads.BatchSubmission, account string, f *uploads.FieldError) *uploads.FieldError {
	field := f.Field
	if option, ok := strings.CutPrefix(field, "options."); ok {
		if _, own := s.AccountOptions[account][option]; own {
			field = "account_options." + account + "." + option
		}
	}
	return &uploads.FieldError{Field: field, Detail: fmt.Sprintf("%s (account %s)", f.Detail, account)}
}

// fillFromPrefix makes an upload of each object for each account that takes it.
func (d *Dispatcher) fillFromPrefix(ctx context.Context, b *uploads.NewBatch, s uploads.BatchSubmission) error {
	f, err := d.filling(ctx, b, s, s.Source.Bucket)
	if err != nil {
		return err
	}
	seen, err := f.below(ctx, s)
	switch field, ours := errors.AsType[*uploads.FieldError](err); {
	case ours:
		return &uploads.FieldError{Field: "source.prefix", Detail: field.Detail}
	case err != nil:
		return err
	case seen == 0:
		return &uploads.FieldError{Field: "source.prefix", Detail: noneBelow(s)}
	case len(b.Items) == 0:
		return &uploads.FieldError{Field: "source.prefix", Detail: fmt.Sprintf("has %d objects, and no account takes one of them; the first is %s: %s",
			seen, b.FirstRejected[0].Key, b.FirstRejected[0].Err)}
	}
	return nil
}

func noneBelow(s uploads.BatchSubmission) string {
	if s.Match != "" {
		return fmt.Sprintf("s3://%s/%s has no object that %s selects; put them there first, or mend bucket, prefix and match", s.Source.Bucket, s.Source.Key, s.Match)
	}
	return fmt.Sprintf("s3://%s/%s has no object; put them there first, or mend bucket and prefix", s.Source.Bucket, s.Source.Key)
}

// fillFromSources makes an upload of each object that is named or below a prefix,
// for each account that takes it.
func (d *Dispatcher) fillFromSources(ctx context.Context, b *uploads.NewBatch, s uploads.BatchSubmission) error {
	var named []uploads.BulkItem
	var buckets []string
	for i, source := range s.Sources {
		if !slices.Contains(buckets, source.Source.Bucket) {
			buckets = append(buckets, source.Source.Bucket)
		}
		if !source.Prefix {
			named = append(named, uploads.BulkItem{Number: i, Submission: uploads.Submission{Source: source.Source}})
		}
	}
	objects, err := d.lookUp(ctx, named)
	if err != nil {
		return err
	}
	f, err := d.filling(ctx, b, s, buckets...)
	if err != nil {
		return err
	}
	full := func(field string, err error) error {
		if e, ok := errors.AsType[*uploads.FieldError](err); ok {
			return &uploads.FieldError{Field: field, Detail: e.Detail}
		}
		return err
	}
	for i, source := range s.Sources {
		one := s.Of(source)
		if source.Prefix {
			seen, err := f.below(ctx, one)
			if err != nil {
				return full(fmt.Sprintf("sources[%d].prefix", i), err)
			}
			if seen == 0 {
				f.reject("", source.Source.Key, noneBelow(one))
			}
			continue
		}
		if why := found(&one.Submission, objects); why != nil {
			f.reject("", source.Source.Key, flat(why))
			continue
		}
		if err := f.object(one); err != nil {
			return full("sources", err)
		}
	}
	if len(b.Items) == 0 {
		return &uploads.FieldError{Field: "sources", Detail: fmt.Sprintf("name nothing that an account takes; the first is %s: %s", b.FirstRejected[0].Key, b.FirstRejected[0].Err)}
	}
	return nil
}

// filling is a batch that is being filled with many objects. names are those that
// each account's platform has of the batch.
type filling struct {
	d     *Dispatcher
	b     *uploads.NewBatch
	names map[string]taken
}

// filling begins to fill a batch, of which each account must find what its options
// name in each bucket.
func (d *Dispatcher) filling(ctx context.Context, b *uploads.NewBatch, s uploads.BatchSubmission, buckets ...string) (*filling, error) {
	f := &filling{d: d, b: b, names: make(map[string]taken, len(s.Accounts))}
	for _, name := range s.Accounts {
		account, one := d.accounts[name], s.For(name)
		if d.providers[account.Provider].Limits().UniqueNames {
			f.names[name] = taken{}
		}
		for _, bucket := range buckets {
			one.Source.Bucket = bucket
			err := d.checkAttachments(ctx, account, one)
			if _, away := errors.AsType[*uploads.UnavailableError](err); away {
				return nil, err
			}
			var errs []error
			for _, wrong := range uploads.FieldErrors(err) {
				errs = append(errs, ofAccount(s, name, wrong))
			}
			if err := errors.Join(errs...); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// below adds what is below a prefix. seen is how many objects are, and are selected.
func (f *filling) below(ctx context.Context, s uploads.BatchSubmission) (seen int, err error) {
	prefix := s.Source
	err = f.d.staging.List(ctx, prefix.Bucket, prefix.Key, func(o uploads.Object) error {
		if f.d.ofAnother(s.Tenant, o) {
			return nil // not even its name is told
		}
		if ok, _ := path.Match(s.Match, o.Key); s.Match != "" && !ok { // the pattern was checked
			return nil
		}
		seen++
		s.Source, s.Name = o, path.Base(o.Key)
		return f.object(s)
	})
	if field, ours := errors.AsType[*uploads.FieldError](err); ours {
		return seen, field
	} else if err != nil {
		return seen, sourceError(uploads.Object{Bucket: prefix.Bucket, Key: prefix.Key}, err)
	}
	return seen, nil
}

// object adds an upload of one object for each account that takes it. A
// *uploads.FieldError, without a field, says that the batch is full.
func (f *filling) object(s uploads.BatchSubmission) error {
	for _, name := range s.Accounts {
		if len(f.b.Items) == uploads.MaxBulk || f.b.Rejected == uploads.MaxBulk {
			return &uploads.FieldError{Detail: fmt.Sprintf(
				"comes to more than %d uploads, which is the most of one batch; submit longer prefixes one by one", uploads.MaxBulk)}
		}
		account, one := f.d.accounts[name], s.For(name)
		problem := one.Validate() // fills in the name
		problem = errors.Join(problem, f.d.checkObject(account, one))
		if why := f.names[name].refuse(one, problem); why != "" {
			f.reject(name, one.Source.Key, why)
			continue
		}
		if err := f.d.add(f.b, account, one); err != nil {
			return err
		}
	}
	return nil
}

// reject lists an object that an account does not take; "" is every account.
func (f *filling) reject(account, key, why string) {
	if f.b.Rejected++; len(f.b.FirstRejected) < uploads.MaxRejected {
		f.b.FirstRejected = append(f.b.FirstRejected, uploads.Rejected{Key: key, Account: account, Err: why})
	}
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
		Match    string                `json:",omitempty"` // hashes of before had none
		Sources  []uploads.BatchSource `json:",omitempty"`
	}{one, s.Prefix, slices.SortedFunc(slices.Values(s.Accounts), strings.Compare), s.AccountOptions, s.Match, s.Sources})
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
