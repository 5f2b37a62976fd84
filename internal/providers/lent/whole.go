package lent

import "io"

// Whole returns r as a reader of so many bytes that comes to its io.EOF together
// with the last of them. A transport that has the bytes it announced need not
// ask whether there are more, and may not have asked yet when the answer is
// there; the digest of a providers.Body is known from its io.EOF on.
func Whole(r io.Reader, length int64) io.Reader { return &whole{r: r, left: length} }

type whole struct {
	r    io.Reader
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if w.left <= 0 && err == nil {
		// Should there be a byte more, the digest is that of another part.
		_, err = w.r.Read(make([]byte, 1))
	}
	return n, err //nolint:wrapcheck // a reader passes on what it is told, io.EOF above all
}
