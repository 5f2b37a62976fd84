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
	var result uploads.BulkResult
	if err := d.queue.closed(); err != nil {
		return result, err
	}
	reject := func(number int, err error) {
		result.Rejected = append(result.Rejected, uploads.LineError{Number: number, Err: err})
	}
	var items []uploads.BulkItem
	for _, l := range lines {
		s := l.Submission
		s.Tenant = tenant
		account, err := d.checkSubmission(&s)
		if err != nil {
			reject(l.Number, err)
			continue
		}
		items = append(items, uploads.BulkItem{
			Number: l.Number, Submission: s, Provider: account.Provider, Pool: account.Pool,
			KnownBy: string(d.providers[account.Provider].Limits().KnownBy), IntakeItem: uploads.IntakeItem{RequestHash: s.Hash()},
		})
	}
	objects, err := d.lookUp(ctx, items)
	if err != nil {
		return result, err
	}
	names := map[string]taken{}
	under := map[string][]byte{} // hashes by idempotency key
	kept := items[:0]
	for _, it := range items {
		account, s := d.accounts[it.Submission.Account], it.Submission
		if d.providers[account.Provider].Limits().UniqueNames && names[account.Name] == nil {
			names[account.Name] = taken{}
		}
		problem := found(&s, objects)
		if problem == nil {
			problem = errors.Join(d.checkObject(account, s), d.checkAttachments(ctx, account, s))
		}
		if _, away := errors.AsType[*uploads.UnavailableError](problem); away {
			return result, problem
		}
		// What is the same as a line before is known, and not another one of its name.
		hash := it.RequestHash
		again := s.IdempotencyKey != "" && bytes.Equal(under[s.IdempotencyKey], hash)
		if problem == nil && !again {
			if why := names[account.Name].refuse(s, nil); why != "" {
				problem = &uploads.FieldError{Field: "name", Detail: strings.TrimPrefix(why, "name: ")}
			}
		}
		if problem != nil {
			reject(it.Number, problem)
			continue
		}
		under[s.IdempotencyKey] = hash
		if it.IntakeItem, err = itemOf(s); err != nil {
			return result, err
		}
		it.RequestHash, it.Submission = hash, s
		kept = append(kept, it)
	}
	if len(kept) > 0 {
		if result.Batch, err = uploads.NewID(); err != nil {
			return result, err
		}
		there, err := d.store.InsertBulk(ctx, tenant, result.Batch, kept)
		if err != nil {
			return result, err
		}
		for _, o := range there {
			if o.Equal {
				result.Known++
			} else {
				reject(o.Number, fmt.Errorf("%w; use another key, or submit the same content", uploads.ErrKeyTaken))
			}
		}
		if result.Submitted = len(kept) - len(there); result.Submitted == 0 {
			result.Batch = uploads.ID{}
		}
		d.opens.wake()
	}
	slices.SortFunc(result.Rejected, func(a, b uploads.LineError) int { return a.Number - b.Number })
	return result, nil
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
	switch {
	case !there:
		return &uploads.FieldError{Field: "source.key", Detail: s.Source.URL() + " is not in staging, or may not be read; put it there first, or mend bucket and key"}
	case s.Source.ETag != "" && s.Source.ETag != o.ETag:
		return &uploads.FieldError{Field: "source.etag", Detail: fmt.Sprintf("is %q, but staging holds %q; submit the object that is there", s.Source.ETag, o.ETag)}
	case s.Source.Size > 0 && s.Source.Size != o.Size:
		return &uploads.FieldError{Field: "size", Detail: fmt.Sprintf("is %d, but the object in staging has %d bytes; submit the object that is there", s.Source.Size, o.Size)}
	case s.Source.Version != "" && o.Version != "" && s.Source.Version != o.Version:
		return &uploads.FieldError{Field: "source.version", Detail: fmt.Sprintf("is %q, but the latest is %q; only the latest version is taken", s.Source.Version, o.Version)}
	}
	s.Source = o
	return nil
}
