package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type bulkStore interface {
	InsertBulk(ctx context.Context, tenant string, batch uploads.ID, items []uploads.BulkItem) (there []uploads.BulkOutcome, err error)
}

const (
	// askedSingly is how many objects are asked for one by one; more are listed.
	askedSingly = 64
	// listedFor bounds the objects listed for one that is looked for.
	listedFor = 20
)

var errListedEnough = errors.New("listed enough")

// SubmitMany accepts the lines that can be taken, as one batch and one
// transaction, and says what is wrong with the others. When it returns without
// error, what it accepted is durable. It may be repeated where each line has an
// idempotency key.
//
// Objects whose ETag and size a line names are not looked at: reads are made
// under the ETag. The others are listed below what their keys have in common,
// which for a hundred thousand takes a hundredth of the calls.
func (d *Dispatcher) SubmitMany(ctx context.Context, tenant string, lines []uploads.Line) (uploads.BulkResult, error) {
	if err := d.queue.closed(); err != nil {
		return uploads.BulkResult{}, err
	}
	b := bulk{d: d, tenant: tenant}
	b.check(lines)
	objects, err := d.lookUp(ctx, b.items)
	if err != nil {
		return uploads.BulkResult{}, err
	}
	if err := b.checkObjects(ctx, objects); err != nil {
		return uploads.BulkResult{}, err
	}
	if err := b.insert(ctx); err != nil {
		return uploads.BulkResult{}, err
	}
	slices.SortFunc(b.result.Rejected, func(a, b uploads.LineError) int { return a.Number - b.Number })
	return b.result, nil
}

// bulk is one call of SubmitMany.
type bulk struct {
	d      *Dispatcher
	tenant string

	items  []uploads.BulkItem // that nothing is wrong with so far
	result uploads.BulkResult
}

func (b *bulk) reject(number int, err error) {
	b.result.Rejected = append(b.result.Rejected, uploads.LineError{Number: number, Err: err})
}

// check makes items of the lines, as far as can be told without staging.
func (b *bulk) check(lines []uploads.Line) {
	for _, l := range lines {
		s := l.Submission
		s.Tenant = b.tenant
		account, err := b.d.checkSubmission(&s)
		if err != nil {
			b.reject(l.Number, err)
			continue
		}
		b.items = append(b.items, uploads.BulkItem{
			Number: l.Number, Submission: s, Provider: account.Provider, Pool: account.Pool,
			KnownBy: string(b.d.providers[account.Provider].Limits().KnownBy), IntakeItem: uploads.IntakeItem{RequestHash: s.Hash()},
		})
	}
}

// checkObjects keeps the items whose objects can be taken. An error means that
// staging cannot be asked.
func (b *bulk) checkObjects(ctx context.Context, objects map[place]uploads.Object) error {
	names := map[string]taken{}  // by account
	under := map[string][]byte{} // hashes by idempotency key
	kept := b.items[:0]
	for _, it := range b.items {
		account, s := b.d.accounts[it.Submission.Account], it.Submission
		if b.d.providers[account.Provider].Limits().UniqueNames && names[account.Name] == nil {
			names[account.Name] = taken{}
		}
		problem := found(&s, objects)
		if problem == nil {
			problem = errors.Join(b.d.checkObject(account, s), b.d.checkAttachments(ctx, account, s))
		}
		if _, away := errors.AsType[*uploads.UnavailableError](problem); away {
			return problem
		}
		// What is the same as a line before is known, and not another one of its name.
		again := s.IdempotencyKey != "" && bytes.Equal(under[s.IdempotencyKey], it.RequestHash)
		if problem == nil && !again {
			if why := names[account.Name].refuse(s, nil); why != "" {
				problem = &uploads.FieldError{Field: "name", Detail: strings.TrimPrefix(why, "name: ")}
			}
		}
		if problem != nil {
			b.reject(it.Number, problem)
			continue
		}
		under[s.IdempotencyKey] = it.RequestHash
		item, err := itemOf(s)
		if err != nil {
			return err
		}
		item.RequestHash = it.RequestHash
		it.IntakeItem, it.Submission = item, s
		kept = append(kept, it)
	}
	b.items = kept
	return nil
}

// insert makes a batch of the items, in one transaction.
func (b *bulk) insert(ctx context.Context) error {
	if len(b.items) == 0 {
		return nil
	}
	batch, err := uploads.NewID()
	if err != nil {
		return err
	}
	there, err := b.d.store.InsertBulk(ctx, b.tenant, batch, b.items)
	if err != nil {
		return err
	}
	for _, o := range there {
		if o.Equal {
			b.result.Known++
		} else {
			b.reject(o.Number, fmt.Errorf("%w; use another key, or submit the same content", uploads.ErrKeyTaken))
		}
	}
	if b.result.Submitted = len(b.items) - len(there); b.result.Submitted > 0 {
		b.result.Batch = batch
	}
	b.d.opens.wake()
	return nil
}

// place is where an object is.
type place struct{ bucket, key string }

// lookUp finds the objects of the items that do not say themselves what theirs
// is. One that is not in the result is not in staging.
func (d *Dispatcher) lookUp(ctx context.Context, items []uploads.BulkItem) (map[place]uploads.Object, error) {
	wanted := map[string][]string{} // keys by bucket
	objects := map[place]uploads.Object{}
	for _, it := range items {
		if o := it.Submission.Source; o.ETag == "" || o.Size == 0 {
			wanted[o.Bucket] = append(wanted[o.Bucket], o.Key)
		}
	}
	for bucket, keys := range wanted {
		if len(keys) > askedSingly {
			all, err := d.list(ctx, bucket, keys, objects)
			if err != nil {
				return nil, err
			}
			if all {
				continue
			}
		}
		for _, key := range keys {
			if _, there := objects[place{bucket, key}]; there {
				continue
			}
			o, err := d.staging.Stat(ctx, bucket, key)
			if err != nil {
				err = sourceError(uploads.Object{Bucket: bucket, Key: key}, err)
				if _, away := errors.AsType[*uploads.UnavailableError](err); away {
					return nil, err
				}
				continue
			}
			objects[place{bucket, key}] = o
		}
	}
	return objects, nil
}

// list finds keys of a bucket below what they have in common. It reports whether
// it saw all that is there, and not only the first of far more objects than are
// looked for.
func (d *Dispatcher) list(ctx context.Context, bucket string, keys []string, objects map[place]uploads.Object) (all bool, err error) {
	wanted := make(map[string]bool, len(keys))
	for _, key := range keys {
		wanted[key] = true
	}
	listed := 0
	err = d.staging.List(ctx, bucket, commonPrefix(keys), func(o uploads.Object) error {
		if wanted[o.Key] {
			objects[place{bucket, o.Key}] = o
		}
		if listed++; listed > listedFor*len(keys) {
			return errListedEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errListedEnough):
		return false, nil
	case isMissing(err):
		return true, nil // without the bucket, none of them is there
	case err != nil:
		return false, sourceError(uploads.Object{Bucket: bucket}, err)
	}
	return true, nil
}

func isMissing(err error) bool {
	k, ok := errors.AsType[sourceKind](err)
	return ok && k.SourceKind() == parts.SourceMissing
}

func commonPrefix(keys []string) string {
	first, last := slices.Min(keys), slices.Max(keys)
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return strings.ToValidUTF8(first[:n], "")
}

// found fills the submission's source, or says why it cannot be that object.
func found(s *uploads.Submission, objects map[place]uploads.Object) error {
	if s.Source.ETag != "" && s.Source.Size > 0 {
		return nil
	}
	o, there := objects[place{s.Source.Bucket, s.Source.Key}]
	if !there {
		return &uploads.FieldError{Field: "source.key", Detail: s.Source.URL() + " is not in staging, or may not be read; put it there first, or mend bucket and key"}
	}
	said := s.Source
	if o.Version == "" {
		said.Version = "" // a list names none
	}
	if err := differs(said, o); err != nil {
		return err
	}
	s.Source = o
	return nil
}

// differs says what a submitter said of an object that is not so of the one in
// staging.
func differs(said, there uploads.Object) error {
	switch {
	case said.ETag != "" && said.ETag != there.ETag:
		return &uploads.FieldError{Field: "source.etag", Detail: fmt.Sprintf("is %q, but staging holds %q; submit the object that is there", said.ETag, there.ETag)}
	case said.Size > 0 && said.Size != there.Size:
		return &uploads.FieldError{Field: "size", Detail: fmt.Sprintf("is %d, but the object in staging has %d bytes; submit the object that is there", said.Size, there.Size)}
	case said.Version != "" && said.Version != there.Version:
		return &uploads.FieldError{Field: "source.version", Detail: fmt.Sprintf("is %q, but the latest is %q; only the latest version is taken", said.Version, there.Version)}
	}
	return nil
}
