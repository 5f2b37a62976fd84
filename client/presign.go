package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

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
	if _, err := c.callAgain(ctx, http.MethodPost, "/v1/staging/presign", p, &out); err != nil {
		return Presigned{}, fmt.Errorf("ask for a URL to put %q by: %w", p.Name, err)
	}
	return out, nil
}

// PutFile makes the request with the first size bytes of body: the file is stored
// on return without error. It may be repeated until the URL expires, and then
// replaces the object; with patience it is, each time from the beginning, while
// staging does not answer. The token is not sent.
func (c *Client) PutFile(ctx context.Context, p Presigned, body io.ReaderAt, size int64) error {
	source := &putSource{ReaderAt: body, size: size}
	passes := func(err error) bool { return source.failure() == nil && IsAway(err) }
	return c.Repeat(ctx, passes, func() error {
		req, err := http.NewRequestWithContext(ctx, p.Method, p.URL, io.NopCloser(io.NewSectionReader(source, 0, size)))
		if err != nil {
			return errors.New("put a file: the answer of the API has no URL to put it by") // the parser's error repeats it
		}
		for name, value := range p.Headers {
			req.Header.Set(name, value)
		}
		req.Header.Del("Content-Length")
		req.ContentLength = size
		err = c.putOnce(req)
		if why := source.failure(); why != nil {
			err = why // the transport says no more than that the body was short
		}
		if err != nil {
			return fmt.Errorf("put a file into staging at %s: %w", req.URL.Host, err)
		}
		return nil
	})
}

func (c *Client) putOnce(req *http.Request) error {
	res, err := c.http.Do(req)
	if err != nil {
		// Without the query, by which anybody could put the file.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = &url.Error{Op: e.Op, URL: (&url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}).String(), Err: e.Err}
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode/100 != 2 {
		said, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // what was read of it is told
		return &stagingError{status: res.StatusCode, text: fmt.Sprintf("it answered %s: %s", res.Status, said)}
	}
	return nil
}

// stagingError is an answer of staging that is not a success.
type stagingError struct {
	status int
	text   string
}

func (e *stagingError) Error() string { return e.text }

// putSource remembers what was wrong with the file itself.
type putSource struct {
	io.ReaderAt

	size int64
	mu   sync.Mutex // the transport of a request that failed may still be reading
	err  error
}

func (s *putSource) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(b, off)
	if err != nil && off+int64(n) < s.size {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err = fmt.Errorf("read the file: %w", err); errors.Is(err, io.EOF) {
			s.err = fmt.Errorf("the file ended at %d bytes of %d", off+int64(n), s.size)
		}
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

func (s *putSource) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// maxRefusal bounds what is told of an answer of staging, in bytes.
const maxRefusal = 1 << 10
