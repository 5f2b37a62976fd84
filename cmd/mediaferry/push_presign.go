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

// presigned puts a local file into staging by a URL of the API, which makes the key.
func (p *push) presigned(ctx context.Context, file localFile, _, contentType string, body io.ReaderAt) (client.Source, error) {
	if p.key != "" || p.idempotencyKey != "" {
		return client.Source{}, usagef("without --staging-endpoint the API names the key, another one each time; leave --key and --idempotency-key out, or give --staging-endpoint")
	}
	signed, err := p.api.Presign(ctx, client.Presign{Name: cmp.Or(p.name, filepath.Base(file.path)), Size: file.size, ContentType: contentType})
	if e, ok := errors.AsType[*client.Error](err); ok && (e.Status == http.StatusConflict || e.Status == http.StatusNotFound) {
		return client.Source{}, usagef("a local file goes through staging; give --staging-endpoint or MEDIAFERRY_STAGING_ENDPOINT, since the API makes no URL to put it by: %s", e.Detail)
	}
	if err != nil {
		return client.Source{}, err
	}
	return signed.Source, p.api.PutFile(ctx, signed, body, file.size)
}
