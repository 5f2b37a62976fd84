package staging_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"mediaferry/internal/hashing"
	"mediaferry/internal/staging"
)

// The gateway's own checksum, of an object in one piece and of one in several.
func TestStatDigest(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	for name, size := range map[string]int{"one.mp4": 12345, "several.mp4": 17 << 20} {
		data := random(3, size)
		put(t, store, name, data)
		object, got, err := store.StatDigest(t.Context(), bucket, name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hashing.Sum(hashing.CRC64NVME, data)
		if err != nil {
			t.Fatal(err)
		}
		if got != want || object.Size != int64(size) || object.ETag == "" {
			t.Errorf("%s: %+v with %q, want %q", name, object, got, want)
		}
	}
}

// What is no digest of the bytes is not taken for one.
func TestStatDigestTakesOnlyTheWhole(t *testing.T) {
	t.Parallel()
	crc := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 4))
	for name, tt := range map[string]struct {
		headers map[string]string
		want    string
	}{
		"none":          {nil, ""},
		"crc32c":        {map[string]string{"X-Amz-Checksum-Crc32c": crc, "X-Amz-Checksum-Type": "FULL_OBJECT"}, "crc32c:07070707"},
		"type unsaid":   {map[string]string{"X-Amz-Checksum-Crc32c": crc}, "crc32c:07070707"},
		"of the parts":  {map[string]string{"X-Amz-Checksum-Crc32c": crc + "-3", "X-Amz-Checksum-Type": "COMPOSITE"}, ""},
		"parts, unsaid": {map[string]string{"X-Amz-Checksum-Crc32c": crc + "-3"}, ""},
		"composite":     {map[string]string{"X-Amz-Checksum-Crc32c": crc, "X-Amz-Checksum-Type": "COMPOSITE"}, ""},
		"too short":     {map[string]string{"X-Amz-Checksum-Crc32c": "Bwc="}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Amz-Checksum-Mode") != "ENABLED" {
					t.Error("the checksum was not asked for")
				}
				w.Header().Set("ETag", `"e"`)
				w.Header().Set("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
				w.Header().Set("Content-Length", "3")
				for k, v := range tt.headers {
					w.Header().Set(k, v)
				}
			}))
			t.Cleanup(server.Close)
			store := open(t, staging.Config{Endpoint: server.URL, AccessKey: "a", SecretKey: "s", PathStyle: true})
			_, got, err := store.StatDigest(t.Context(), bucket, "k")
			if err != nil || got.String() != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// What is put in one piece brings its checksum along, too: a gateway that makes
// one of whatever arrives would not notice that it is missing.
func TestPutInOnePieceBringsItsChecksum(t *testing.T) {
	t.Parallel()
	trailers := make(chan string, 1)
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body) // the client is told of nothing
			trailers <- r.Header.Get("X-Amz-Trailer")
		}
		w.Header().Set("ETag", `"e"`)
	})
	put(t, store, "film", random(4, 1000))
	if got, want := <-trailers, "x-amz-checksum-crc64nvme"; got != want {
		t.Errorf("the trailer is %q, want %q", got, want)
	}
}
