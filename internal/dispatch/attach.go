package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// checkAttachments checks the options that name other staging objects: each
// must be there, and small enough.
func (d *Dispatcher) checkAttachments(ctx context.Context, account Account, s uploads.Submission) error {
	limits := d.providers[account.Provider].Limits()
	var errs []error
	for _, option := range limits.Attachments {
		key, ok := s.Options[option]
		if !ok {
			continue
		}
		if d.ofAnother(s.Tenant, uploads.Object{Bucket: s.Source.Bucket, Key: key}) {
			errs = append(errs, notOurs("options."+option, s.Tenant))
			continue
		}
		object, err := d.staging.Stat(ctx, s.Source.Bucket, key)
		switch {
		case err != nil:
			err = sourceError(uploads.Object{Bucket: s.Source.Bucket, Key: key}, err)
			if e, ok := errors.AsType[*uploads.FieldError](err); ok {
				err = &uploads.FieldError{Field: "options." + option, Detail: e.Detail}
			}
			errs = append(errs, err)
		case object.Size == 0 || limits.MaxAttachment > 0 && object.Size > limits.MaxAttachment:
			errs = append(errs, &uploads.FieldError{
				Field: "options." + option, Detail: fmt.Sprintf("%s has %d bytes; give an object of 1 to %d", object.URL(), object.Size, limits.MaxAttachment),
			})
		}
	}
	return errors.Join(errs...)
}

// attachments finds the objects that an upload's options name. They are read
// in the version that is there now. One that is gone since intake is an error
// of kind Rejected.
func (d *Dispatcher) attachments(ctx context.Context, p providers.Provider, step uploads.Step) (map[string]providers.Attachment, error) {
	var out map[string]providers.Attachment
	for _, option := range p.Limits().Attachments {
		key, ok := step.Options[option]
		if !ok {
			continue
		}
		object, err := d.staging.Stat(ctx, step.Source.Bucket, key)
		if err != nil {
			kind := providers.Transient
			if isMissing(err) {
				kind = providers.Rejected
			}
			return nil, &providers.Error{Kind: kind, Call: "read options." + option, Err: err}
		}
		if out == nil {
			out = map[string]providers.Attachment{}
		}
		out[option] = providers.Attachment{
			Name: path.Base(key), Size: object.Size,
			Open: func(ctx context.Context) (io.ReadCloser, error) { return d.staging.Open(ctx, object, 0, object.Size) },
		}
	}
	return out, nil
}
