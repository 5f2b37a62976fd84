package main

import (
	"context"
	"errors"
	"io"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// putter stores local files in staging. Put returns when the object is stored
// durably; it may be repeated, and then replaces the object.
type putter interface {
	Put(ctx context.Context, bucket, key, contentType string, body io.Reader, size int64) (uploads.Object, error)
}

// stagingSettings is how to reach the staging store for writing.
type stagingSettings struct {
	Endpoint, Region, AccessKey string
	SecretKey                   providers.Secret
}

// newStaging connects to the staging store.
func newStaging(stagingSettings) (putter, error) {
	return nil, errors.New("this build cannot write to staging; put the file there and push its s3:// URL")
}
