package lent

import "io"

// Whole returns r as a reader of length bytes that returns io.EOF together with
// the last of them. A transport need not read on once it has the bytes that it
// announced, or may do so only after the answer, but the digest of a
// providers.Body is not known before its io.EOF.
func Whole(r io.Reader, length int64) io.Reader { return &whole{r: r, left: length} }

type whole struct {
	r    io.Reader
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if w.left <= 0 && err == nil {
		// If another byte follows, the digest covers it too and will not match.
		_, err = w.r.Read(make([]byte, 1))
	}
	return n, err //nolint:wrapcheck // a reader passes on what it is told, io.EOF above all
}
