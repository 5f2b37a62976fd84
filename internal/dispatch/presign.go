package dispatch

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"mediaferry/internal/uploads"
)

// Presign is how callers put files into staging without credentials of it.
type Presign struct {
	Bucket string // "" makes no URLs
	Signer putSigner
}

type putSigner interface {
	// PresignPut signs a request that stores exactly put.Size bytes under the
	// key; it calls nobody.
	PresignPut(ctx context.Context, bucket, key string, put uploads.Put) (url string, headers map[string]string, err error)
}

// incoming begins the keys of files that callers put. The tenant follows.
const incoming = "incoming/"

// PresignPut returns a request that stores the caller's file in staging. The key
// is fresh and below the tenant's: nobody can put a file in another one's place,
// or change one under an upload that reads it, but by a URL of their own. Nor is it
// submitted for another tenant.
func (d *Dispatcher) PresignPut(ctx context.Context, put uploads.Put) (uploads.SignedPut, error) {
	if err := put.Validate(); err != nil {
		return uploads.SignedPut{}, err
	}
	if d.cfg.Presign.Bucket == "" {
		return uploads.SignedPut{}, uploads.ErrNoPresign
	}
	id, err := uploads.NewID()
	if err != nil {
		return uploads.SignedPut{}, err
	}
	out := uploads.SignedPut{
		Source:    uploads.Object{Bucket: d.cfg.Presign.Bucket, Key: incoming + put.Tenant + "/" + id.String() + "/" + put.Name},
		ExpiresAt: time.Now().Add(put.Life),
	}
	if out.URL, out.Headers, err = d.cfg.Presign.Signer.PresignPut(ctx, out.Source.Bucket, out.Source.Key, put); err != nil {
		return uploads.SignedPut{}, fmt.Errorf("sign a request: %w", err)
	}
	return out, nil
}

// ofAnother reports whether an object is, or a prefix is of, files that other
// tenants put. A server that keeps files in folders may follow dots in a key.
func (d *Dispatcher) ofAnother(tenant string, o uploads.Object) bool {
	if d.cfg.Presign.Bucket == "" || o.Bucket != d.cfg.Presign.Bucket {
		return false
	}
	key := path.Clean("/" + o.Key)
	return strings.HasPrefix(key, "/"+incoming) && !strings.HasPrefix(key+"/", "/"+incoming+tenant+"/")
}

// notOurs is what ofAnother comes to, whether there is such an object or not.
func notOurs(field, tenant string) *uploads.FieldError {
	return &uploads.FieldError{Field: field, Detail: fmt.Sprintf("is below what other tenants put by URL; those of tenant %q are below %s%s/", tenant, incoming, tenant)}
}
