// Package lent lends a part's bytes to net/http and takes them back. A transport
// may still read a request's body after the call has returned, but a
// providers.Body is valid only until PutPart returns: its buffer then serves the
// next part.
package lent

import (
	"errors"
	"io"
	"sync"
)

// ErrReturned is the error of a lent reader that was taken back.
var ErrReturned = errors.New("the body was taken back")

// Loan is the readers handed out during one call. The zero Loan is ready for use.
type Loan struct {
	mu       sync.Mutex // held during each read
	returned bool
}

// Reader returns r for use as a request's body. Its Close does nothing, so a
// transport that tries again may be lent another reader.
func (l *Loan) Reader(r io.Reader) io.ReadCloser { return &reader{loan: l, r: r} }

// Return takes all readers back: it waits for a read in hand, and no byte is
// read afterwards. It may be repeated.
func (l *Loan) Return() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.returned = true
}

type reader struct {
	loan *Loan
	r    io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	r.loan.mu.Lock()
	defer r.loan.mu.Unlock()
	if r.loan.returned {
		return 0, ErrReturned
	}
	return r.r.Read(p) //nolint:wrapcheck // a reader passes on what it is told, io.EOF above all
}

func (r *reader) Close() error { return nil }
