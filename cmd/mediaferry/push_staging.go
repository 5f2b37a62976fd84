package main

import (
	"context"
	"errors"
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

// stagingAway reports whether err says that staging did not answer, or not yet; a
// file that cannot be read is no fault of staging.
func stagingAway(err error) bool {
	e, ok := errors.AsType[*staging.Error](err)
	_, ours := errors.AsType[*staging.SourceError](err)
	return ok && e.Kind == staging.Transient && !ours
}

// newStaging connects to the staging store.
func newStaging(s stagingSettings) (putter, error) {
	return staging.New(staging.Config{
		Endpoint: s.Endpoint, Region: s.Region, AccessKey: providers.Secret(s.AccessKey), SecretKey: s.SecretKey, PathStyle: true,
	})
}
