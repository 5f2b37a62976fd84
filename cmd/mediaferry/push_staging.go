package main

import (
	"context"
	"io"

	"mediaferry/internal/providers"
	"mediaferry/internal/staging"
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
func newStaging(s stagingSettings) (putter, error) {
	return staging.New(staging.Config{
		Endpoint: s.Endpoint, Region: s.Region, AccessKey: providers.Secret(s.AccessKey), SecretKey: s.SecretKey, PathStyle: true,
	})
}
