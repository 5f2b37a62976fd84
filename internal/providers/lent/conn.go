package lent

import (
	"bytes"
	"context"
	"io"
	"net"
)

// Dial returns a dial whose connections take the rest of a lent body that is in
// memory with one write. net/http by itself copies any body through a buffer of
// 32 KiB, with a write for each; under TLS it still does.
func Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn{c}, nil
	}
}

type conn struct{ net.Conn }

// ReadFrom is what net/http sends a body with whose length it has announced.
func (c conn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*reader); ok {
			if n, took, err := body.writeTo(c.Conn, limited.N); took {
				limited.N -= n
				return n, err
			}
		}
	}
	return io.Copy(c.Conn, r) //nolint:wrapcheck // a connection passes on what it is told
}

// writeTo writes the rest of a body in memory, if that is at most so many bytes.
// Return waits for it: a transport that gives up on a request closes the
// connection, which ends the write.
func (r *reader) writeTo(w io.Writer, most int64) (n int64, took bool, err error) {
	r.loan.mu.Lock()
	defer r.loan.mu.Unlock()
	whole, ok := r.r.(*bytes.Reader)
	if !ok || int64(whole.Len()) > most {
		return 0, false, nil
	}
	if r.loan.returned {
		return 0, true, ErrReturned
	}
	n, err = whole.WriteTo(w)
	return n, true, err //nolint:wrapcheck // a connection passes on what it is told
}
