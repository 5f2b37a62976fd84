package dispatch

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

type intakeStore interface {
	ByKey(ctx context.Context, tenant, key string, requestHash []byte) (id uploads.ID, found bool, err error)
	Insert(ctx context.Context, in *uploads.Intake) (created map[uploads.ID]bool, err error)
	Upload(ctx context.Context, tenant string, id uploads.ID) (uploads.Upload, error)
	Uploads(ctx context.Context, f uploads.Filter) ([]uploads.Upload, error)
}

// Submit accepts an upload: when it returns without error the upload is
// durable and will be worked on. What is wrong with the submission is a join
// of *uploads.FieldError, and then nothing is kept. It may be repeated under
// one idempotency key: created is false the second time, and another
// submission under the key is uploads.ErrKeyTaken.
func (d *Dispatcher) Submit(ctx context.Context, s uploads.Submission) (u uploads.Upload, created bool, err error) {
	account, err := d.checkSubmission(&s)
	if err != nil {
		return uploads.Upload{}, false, err
	}
	hash := s.Hash()
	if s.IdempotencyKey != "" {
		// Before staging is asked: the object may be gone by now, and rightly so.
		id, found, err := d.store.ByKey(ctx, s.Tenant, s.IdempotencyKey, hash)
		if err != nil {
			return uploads.Upload{}, false, err
		}
		if found {
			u, err := d.store.Upload(ctx, s.Tenant, id)
			return u, false, err
		}
	}
	if err := d.queue.closed(); err != nil {
		return uploads.Upload{}, false, err
	}
	object, kept, err := d.staging.StatDigest(ctx, s.Source.Bucket, s.Source.Key)
	if err != nil {
		return uploads.Upload{}, false, sourceError(s.Source, err)
	}
	if err := differs(s.Source, object); err != nil {
		return uploads.Upload{}, false, err
	}
	s.Source = object
	if err := d.checkObject(account, s); err != nil {
		return uploads.Upload{}, false, err
	}
	if err := d.checkAttachments(ctx, account, s); err != nil {
		return uploads.Upload{}, false, err
	}
	in, err := d.intakeOf(account, s, uploads.ID{})
	if err != nil {
		return uploads.Upload{}, false, err
	}
	in.Items[0].RequestHash = hash
	in.BucketDigest, in.BucketAsked = kept, true
	took, err := d.store.Insert(ctx, in)
	if err != nil {
		return uploads.Upload{}, false, err
	}
	id := in.Items[0].ID // that of the first submission where the key was there
	d.opens.wake()
	u, err = d.store.Upload(ctx, s.Tenant, id)
	return u, took[id], err
}

const prefixBatch = 1000 // objects of one insert

// SubmitPrefix submits every object below a prefix, as one batch. Source.Key
// of the template is the prefix; each upload is named by the last element of its
// key. A pattern match, as path.Match has it, leaves out what is not of it.
// Objects that cannot be taken are listed, the others are accepted. It is not
// one transaction: what was accepted before an error stays, and calling it
// again submits those objects again.
func (d *Dispatcher) SubmitPrefix(ctx context.Context, s uploads.Submission, match string) (uploads.PrefixResult, error) {
	var result uploads.PrefixResult
	prefix := s.Source.Key
	s.Name = "prefix" // each object has its own
	if s.Source.Key == "" {
		s.Source.Key = "/" // the whole bucket
	}
	account, err := d.checkSubmission(&s)
	if err != nil {
		return result, err
	}
	if err := d.queue.closed(); err != nil {
		return result, err
	}
	if s.IdempotencyKey != "" || len(s.Digests) > 0 {
		return result, &uploads.FieldError{Field: "idempotency_key", Detail: "is for one object, not for a prefix; leave it and digests out"}
	}
	if _, err := path.Match(match, ""); err != nil {
		return result, &uploads.FieldError{Field: "match", Detail: "is not a complete pattern; close its brackets, and end it with something after a backslash"}
	}
	if result.Batch, err = uploads.NewID(); err != nil {
		return result, err
	}
	in, err := d.intakeOf(account, s, result.Batch)
	if err != nil {
		return result, err
	}
	in.Items = in.Items[:0]
	var names taken
	if d.providers[account.Provider].Limits().UniqueNames {
		names = taken{}
	}
	flush := func() error {
		if len(in.Items) == 0 {
			return nil
		}
		if _, err := d.store.Insert(ctx, in); err != nil {
			return err
		}
		result.Submitted += len(in.Items)
		in.Items = in.Items[:0]
		d.opens.wake()
		return nil
	}
	err = d.staging.List(ctx, s.Source.Bucket, prefix, func(o uploads.Object) error {
		if ok, _ := path.Match(match, o.Key); match != "" && !ok { // the pattern was tried above
			return nil
		}
		if d.ofAnother(s.Tenant, o) {
			return nil // not even its name is told
		}
		one := s
		one.Source = o
		one.Name = path.Base(o.Key)
		if why := names.refuse(one, errors.Join(one.Validate(), d.checkObject(account, one))); why != "" {
			result.Rejected = append(result.Rejected, uploads.Rejected{Key: o.Key, Err: why})
			return nil
		}
		it, err := itemOf(one)
		if err != nil {
			return err
		}
		in.Items = append(in.Items, it)
		if len(in.Items) < prefixBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return result, sourceError(uploads.Object{Bucket: s.Source.Bucket, Key: prefix}, err)
	}
	err = flush()
	if result.Submitted == 0 {
		result.Batch = uploads.ID{} // there is none
	}
	return result, err
}

// taken are the names of a batch by the key that has each; nil where a platform
// keeps assets of one name apart.
type taken map[string]string

// refuse says why an object of the batch is not taken, "" if it is: what is
// wrong with it, or that its asset would replace that of another one.
func (t taken) refuse(s uploads.Submission, problem error) string {
	if problem != nil {
		return problem.Error()
	}
	if t == nil {
		return ""
	}
	if key, there := t[s.Name]; there {
		return fmt.Sprintf("name: %q is also that of %s, and the second would replace the first; submit it alone with a name", s.Name, key)
	}
	t[s.Name] = s.Source.Key
	return ""
}

// checkSubmission checks what can be told without staging.
func (d *Dispatcher) checkSubmission(s *uploads.Submission) (Account, error) {
	err := s.Validate()
	if d.ofAnother(s.Tenant, s.Source) {
		err = errors.Join(err, notOurs("source.key", s.Tenant))
	}
	account, ok := d.accounts[s.Account]
	if s.Account != "" && (!ok || account.Tenant != s.Tenant) {
		err = errors.Join(err, d.unknownAccount(s.Tenant, s.Account))
	}
	return account, err
}

// unknownAccount says that a request names an account that the tenant does not
// have, and which it has.
func (d *Dispatcher) unknownAccount(tenant, name string) error {
	return &uploads.UnknownAccountError{Field: &uploads.FieldError{
		Field: "account", Detail: fmt.Sprintf("%q is not configured; tenant %q has %s", name, tenant, d.accountNames(tenant)),
	}}
}

func (d *Dispatcher) accountNames(tenant string) string {
	var names []string
	for name, a := range d.accounts {
		if a.Tenant == tenant {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return fmt.Sprint(names)
}

// checkObject checks what the provider can tell from the object's size and
// the submission's name and options, without a call.
func (d *Dispatcher) checkObject(account Account, s uploads.Submission) error {
	p := d.providers[account.Provider]
	limits := p.Limits()
	var errs []error
	plan, err := parts.NewPlan(s.Source.Size, limits.Limits)
	switch {
	case errors.Is(err, parts.ErrEmpty):
		errs = append(errs, &uploads.FieldError{
			Field: "source.key", Detail: s.Source.URL() + " is empty; platforms take no empty media",
		})
	case err != nil:
		errs = append(errs, &uploads.FieldError{
			Field: "source.key", Detail: fmt.Sprintf("%s is too large for %s: %v", s.Source.URL(), account.Provider, err),
		})
	case plan.Part(1).Length > account.Window:
		errs = append(errs, &uploads.FieldError{
			Field: "source.key", Detail: fmt.Sprintf("%s needs parts of %d bytes, but account %s may have %d in flight; raise its window",
				s.Source.URL(), plan.PartSize, account.Name, account.Window),
		})
	}
	if checker, ok := p.(providers.MediaChecker); ok {
		errs = append(errs, checker.CheckMedia(providers.Media{
			Name: s.Name, ContentType: s.ContentType, Size: s.Source.Size, PartSize: plan.PartSize, Digests: s.Digests, Options: s.Options,
		}))
	}
	return errors.Join(errs...)
}

// sourceKind is an error of staging that says what kind it is of.
type sourceKind interface {
	error
	SourceKind() string
}

func sourceError(o uploads.Object, err error) error {
	kind := ""
	if k, ok := errors.AsType[sourceKind](err); ok {
		kind = k.SourceKind()
	}
	switch kind {
	case parts.SourceMissing:
		return &uploads.FieldError{Field: "source.key", Detail: fmt.Sprintf("%s is not in staging; put it there first, or mend bucket and key", o.URL())}
	case parts.SourceDenied:
		return &uploads.FieldError{Field: "source.bucket", Detail: fmt.Sprintf("staging refuses our credentials for %s; grant them read access", o.URL())}
	default:
		return &uploads.UnavailableError{What: "staging", Err: err}
	}
}

func (d *Dispatcher) intakeOf(account Account, s uploads.Submission, batch uploads.ID) (*uploads.Intake, error) {
	it, err := itemOf(s)
	if err != nil {
		return nil, err
	}
	return &uploads.Intake{
		Tenant: s.Tenant, Account: account.Name, Provider: account.Provider, Pool: account.Pool, Batch: batch,
		Bucket: s.Source.Bucket, Options: s.Options, Labels: s.Labels, Digests: s.Digests,
		Priority: s.Priority, NotBefore: s.NotBefore, Items: []uploads.IntakeItem{it},
		KnownBy: d.providers[account.Provider].Limits().KnownBy,
	}, nil
}

func itemOf(s uploads.Submission) (uploads.IntakeItem, error) {
	id, err := uploads.NewID()
	if err != nil {
		return uploads.IntakeItem{}, err
	}
	return uploads.IntakeItem{
		ID: id, IdempotencyKey: s.IdempotencyKey, RequestHash: []byte{}, Source: s.Source, Name: s.Name, ContentType: s.ContentType,
	}, nil
}

// Upload returns one upload of a tenant, or uploads.ErrNotFound.
func (d *Dispatcher) Upload(ctx context.Context, tenant string, id uploads.ID) (uploads.Upload, error) {
	u, err := d.store.Upload(ctx, tenant, id)
	if err != nil {
		return u, err
	}
	d.live.fill(&u)
	return u, nil
}

// Uploads returns a page of uploads, newest first.
func (d *Dispatcher) Uploads(ctx context.Context, f uploads.Filter) ([]uploads.Upload, error) {
	list, err := d.store.Uploads(ctx, f)
	for i := range list {
		d.live.fill(&list[i])
	}
	return list, err
}
