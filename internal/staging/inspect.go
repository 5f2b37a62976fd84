package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"

	"mediaferry/internal/uploads"
)

// ErrEmpty says that a bucket has no object to try a read on.
var ErrEmpty = errors.New("the bucket has no object to read")

// ErrNotPinned says that a server ignores If-Match. Reads still notice another
// object, by the ETag of the answer.
var ErrNotPinned = errors.New("the server does not heed If-Match")

// errFound ends a listing.
var errFound = errors.New("found one")

// Inspect tries what uploads need of a bucket, and changes nothing: it finds one
// object that is not empty, reads its last bytes pinned to its ETag, and checks
// that the same read is refused for another ETag. Without such an object it
// returns ErrEmpty.
func (s *Store) Inspect(ctx context.Context, bucket string) (uploads.Object, error) {
	var object uploads.Object
	err := s.List(ctx, bucket, "", func(o uploads.Object) error {
		if o.Size == 0 {
			return nil
		}
		object = o
		return errFound
	})
	switch {
	case err == nil:
		return object, ErrEmpty
	case !errors.Is(err, errFound):
		return object, err
	}
	length := min(object.Size, 4)
	if err := s.tryRange(ctx, object, length); err != nil {
		return object, err
	}
	other := object
	other.ETag = "00000000000000000000000000000000"
	err = s.tryRange(ctx, other, length)
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok && r.StatusCode == http.StatusPreconditionFailed {
		return object, nil
	}
	if e, ok := errors.AsType[*Error](err); err == nil || ok && e.Kind == Changed {
		return object, ErrNotPinned // the server let it pass; only our own check noticed
	}
	return object, err
}

func (s *Store) tryRange(ctx context.Context, object uploads.Object, length int64) error {
	body, err := s.Open(ctx, object, object.Size-length, length)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("read %s: %w", object.URL(), err)
	}
	return nil
}
