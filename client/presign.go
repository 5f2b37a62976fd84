package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"mediaferry/internal/api/wire"
)

type (
	// Presign asks for a URL by which a file is put into staging.
	Presign = wire.Presign
	// Presigned is a request that stores the file. Whoever has its URL can make it.
	Presigned = wire.Presigned
)

// Presign returns a request that stores a file in staging, where its Source is
// then ready to be submitted. Nothing is stored yet.
func (c *Client) Presign(ctx context.Context, p Presign) (Presigned, error) {
	var out Presigned
	if _, err := c.call(ctx, http.MethodPost, "/v1/staging/presign", p, &out); err != nil {
		return Presigned{}, fmt.Errorf("ask for a URL to put %s by: %w", p.Name, err)
	}
	return out, nil
}

// PutFile makes the request with size bytes of body: the file is stored on return
// without error. It may be repeated until the URL expires, and then replaces the
// object. The token is not sent.
func (c *Client) PutFile(ctx context.Context, p Presigned, body io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, p.Method, p.URL, io.NopCloser(body))
	if err != nil {
		return errors.New("put a file: the answer of the API has no URL to put it by") // the parser's error repeats it
	}
	for name, value := range p.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Del("Content-Length")
	req.ContentLength = size
	res, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, by which anybody could put the file
		}
		return fmt.Errorf("put a file into staging at %s: %w", req.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode/100 != 2 {
		said, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // what was read of it is told
		return fmt.Errorf("put a file into staging at %s: it answered %s: %s", req.URL.Host, res.Status, said)
	}
	return nil
}

// maxRefusal bounds what is told of an answer of staging, in bytes.
const maxRefusal = 1 << 10
