package staging_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

// TestOtherBytesThanAskedFor has staging answer a range with something else of the
// very object. No byte of it may be taken for one of the range.
func TestOtherBytesThanAskedFor(t *testing.T) {
	t.Parallel()
	data := random(7, 1000)
	const offset, length = 100, 200
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter)
		opened bool // what is wrong shows in the body
		whole  bool // the range asked for is the whole object
		want   staging.Kind
	}{
		"the whole object": {answer: func(w http.ResponseWriter) { _, _ = w.Write(data) }, want: staging.Transient},
		"the whole object, of no length": {answer: func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			_, _ = w.Write(data)
		}, want: staging.Transient},
		"a range that is not named": {answer: func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:length])
		}, want: staging.Transient},
		"another range":              {answer: ranged("bytes 0-199/1000", data[:length]), want: staging.Transient},
		"a shorter range":            {answer: ranged("bytes 100-150/1000", data[100:151]), want: staging.Transient},
		"a longer range":             {answer: ranged("bytes 100-999/1000", data[100:]), want: staging.Transient},
		"a range of a larger object": {answer: ranged("bytes 100-299/2000", data[100:300]), want: staging.Changed},
		"no numbers":                 {answer: ranged("bytes x-y/z", data[100:300]), want: staging.Transient},
		"lines":                      {answer: ranged("lines 100-299/1000", data[100:300]), want: staging.Transient},
		"fewer bytes than it says": {answer: func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 100-299/1000")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			_, _ = w.Write(data[100:250])
		}, opened: true, want: staging.Transient},
		"the range":                            {answer: ranged("bytes 100-299/1000", data[100:300]), opened: true},
		"the range of a size that is not told": {answer: ranged("bytes 100-299/*", data[100:300]), opened: true},
		"the range and more": {answer: func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 100-299/1000")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush() // no Content-Length bounds it
			_, _ = w.Write(data[100:])
		}, opened: true},
		"the whole object for its whole": {answer: func(w http.ResponseWriter) { _, _ = w.Write(data) }, opened: true, whole: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"abc"`)
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				tt.answer(w)
			})
			want, first := data[offset:offset+length], int64(offset)
			if tt.whole {
				want, first = data, 0
			}
			body, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: 1000}, first, int64(len(want)))
			if !tt.opened {
				wantKind(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = body.Close() }()
			got, err := io.ReadAll(body)
			if tt.want != "" {
				wantKind(t, err, tt.want)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// ranged answers with a range, whatever it is of, and announces its bytes.
func ranged(what string, bytes []byte) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Range", what)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(bytes)
	}
}

// TestETagsThatPinNothing: an answer whose ETag does not tell one object's bytes from
// another's is none of an object, neither when it is submitted nor when it is read.
func TestETagsThatPinNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		etag, length string
	}{
		"weak":     {`W/"abc"`, "10"},
		"none":     {"", "10"},
		"long":     {`"` + strings.Repeat("a", 2000) + `"`, "10"},
		"bytes":    {"\"a\xff\"", "10"},
		"quotes":   {`"a"b"`, "10"},
		"no size":  {`"abc"`, ""},
		"negative": {`"abc"`, "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", tt.etag)
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				if _, err := strconv.ParseUint(tt.length, 10, 64); err != nil {
					w.Header().Set("Transfer-Encoding", "chunked")
				} else {
					w.Header().Set("Content-Length", tt.length)
				}
				if r.Method != http.MethodHead {
					_, _ = w.Write(make([]byte, 10))
				}
			})
			_, err := store.Stat(t.Context(), bucket, "k")
			wantKind(t, err, staging.Transient)
			_, _, err = store.StatDigest(t.Context(), bucket, "k")
			wantKind(t, err, staging.Transient)
			if tt.length != "10" {
				return
			}
			_, err = store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: 10}, 0, 10)
			wantKind(t, err, staging.Transient)
		})
	}
}
