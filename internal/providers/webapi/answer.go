package webapi

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxAnswer bounds what is read of an answer that lists nothing, in bytes. A worker
// may read as many of them at once as it has slots.
const MaxAnswer = 256 << 10

// errTooLong is an answer that goes on beyond the bound.
var errTooLong = errors.New("the answer does not end")

// ReadAnswer reads a body that may have so many bytes. One that has more is an
// error: its beginning alone could be taken for something that it is not.
func ReadAnswer(body io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(body, most+1))
	switch {
	case err != nil:
		return nil, err //nolint:wrapcheck // classified by the caller
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%w within %d bytes", errTooLong, most)
	}
	return text, nil
}

// maxTag bounds an ETag, in bytes; those seen have up to 40.
const maxTag = 256

// Tag returns an ETag as receipts keep it: without its quotes. It is "" where
// that is none that could be sent back to name what is stored.
func Tag(etag string) string {
	tag := strings.Trim(etag, `"`)
	if len(tag) > maxTag || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return tag
}

// maxCode bounds a platform's own code of an error, in bytes; the longest in the
// documents have about 40.
const maxCode = 64

// Code returns a platform's own code of an error, "" where it is none.
func Code(text string) string {
	if len(text) > maxCode || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return text
}
