package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"

	"mediaferry/client"
)

// presigned puts a local file into staging by a URL of the API, and submits it
// from there. The key is made by the API.
func (p *push) presigned(ctx context.Context, name string, file io.Reader, size int64) error {
	if p.key != "" || p.idempotencyKey != "" {
		return usagef("without --staging-endpoint the API names the key, another one each time; leave --key and --idempotency-key out, or give --staging-endpoint")
	}
	signed, err := p.api.Presign(ctx, client.Presign{Name: cmp.Or(p.name, filepath.Base(name)), Size: size, ContentType: p.contentType})
	if e, ok := errors.AsType[*client.Error](err); ok && (e.Status == http.StatusConflict || e.Status == http.StatusNotFound) {
		return usagef("a local file goes through staging; give --staging-endpoint or MEDIAFERRY_STAGING_ENDPOINT, since the API makes no URL to put it by: %s", e.Detail)
	}
	if err != nil {
		return err
	}
	bar := newProgress(p.stderr, p.now)
	defer bar.close()
	body := &counter{r: file, report: func(done int64) {
		bar.set(name, status{name: filepath.Base(name), stage: "staging", done: done, total: size})
	}}
	if err := p.api.PutFile(ctx, signed, body, size); err != nil {
		return err
	}
	bar.close()
	return p.object(ctx, signed.Source)
}
