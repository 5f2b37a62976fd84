package staging

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"mediaferry/internal/uploads"
)

const (
	putPartSize = 16 << 20
	putThreads  = 4
	maxParts    = 10_000 // of S3
)

// Put stores exactly size bytes of r under the key and returns the object. More
// than 16 MiB goes in parts of that size, four at a time, each through a buffer;
// above 156 GiB the parts grow with the size and go two at a time. The server
// checks each part by a CRC-64/NVME. A reader that fails or ends early is an error
// with a *SourceError inside, and nothing is stored; nothing is read beyond size
// bytes. To see progress, wrap r.
func (s *Store) Put(ctx context.Context, bucket, key, contentType string, r io.Reader, size int64) (uploads.Object, error) {
	partSize, threads := int64(putPartSize), uint(putThreads)
	if size > putPartSize*maxParts {
		partSize, threads = (size+maxParts-1)/maxParts, 2
	}
	source := &exactReader{r: r, left: size}
	info, err := s.write.PutObject(ctx, bucket, key, source, size, minio.PutObjectOptions{
		ContentType:           contentType,
		PartSize:              uint64(partSize),
		NumThreads:            threads,
		ConcurrentStreamParts: true,
		// AutoChecksum would leave an object in one piece without a checksum.
		Checksum: minio.ChecksumCRC64NVME,
		// The checksum covers the bytes; signing them too would hash them twice.
		DisableContentSha256: true,
	})
	if cause := source.failure.Load(); err != nil && cause != nil {
		err = *cause // minio-go only says that the connection was closed
	}
	if err != nil {
		return uploads.Object{}, classify("put", bucket, key, err)
	}
	return uploads.Object{Bucket: bucket, Key: key, Version: version(info.VersionID), ETag: info.ETag, Size: size}, nil
}

// SourceError says that what Put was given to read failed or ended early: nothing
// is wrong with the store.
type SourceError struct{ Err error }

// Error says what is wrong with it.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// exactReader ends after left bytes and fails if r ends earlier: minio-go would
// take that for the end of the object.
type exactReader struct {
	r       io.Reader
	left    int64
	failure atomic.Pointer[error] // what Read returned; the transport may still be reading
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case e.left == 0:
		return n, io.EOF
	case err == nil:
		return n, nil
	case err == io.EOF: //nolint:errorlint // readers return io.EOF itself
		err = fmt.Errorf("the source ended %d bytes early: %w", e.left, io.ErrUnexpectedEOF)
	default:
		err = fmt.Errorf("read the source: %w", err)
	}
	err = &SourceError{err}
	e.failure.Store(&err)
	return n, err
}

// MakeBucket makes the bucket. If it is ours already, that is no error.
func (s *Store) MakeBucket(ctx context.Context, bucket string) error {
	err := s.write.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	if err == nil || minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
		return nil
	}
	return classify("make bucket", bucket, "", err)
}

// Delete removes the object. If it is gone already, that is no error.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	if err := s.write.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}); err != nil {
		return classify("delete", bucket, key, err)
	}
	return nil
}
