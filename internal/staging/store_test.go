package staging_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/providers"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

const bucket = "staging"

// newStore returns a store on a server of the test's own with one bucket.
func newStore(t *testing.T) *staging.Store {
	t.Helper()
	return open(t, devtest.S3(t, bucket).Config())
}

func open(t *testing.T, config staging.Config) *staging.Store {
	t.Helper()
	store, err := staging.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func put(t *testing.T, store *staging.Store, key string, data []byte) uploads.Object {
	t.Helper()
	obj, err := store.Put(t.Context(), bucket, key, "video/mp4", bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// random returns n bytes that are the same for the same seed.
func random(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func wantKind(t *testing.T, err error, kind staging.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*staging.Error](err); !ok || e.Kind != kind {
		t.Errorf("error %v, want a *staging.Error of kind %q", err, kind)
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	data := random(1, 12345)
	stored := put(t, store, "a/b c/ü.mp4", data)
	got, err := store.Stat(t.Context(), bucket, "a/b c/ü.mp4")
	if err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(data)
	want := uploads.Object{Bucket: bucket, Key: "a/b c/ü.mp4", ETag: hex.EncodeToString(sum[:]), Size: 12345}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Stat (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Errorf("Put (-want +got):\n%s", diff)
	}
}

func TestOpenRanges(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	const size = 3<<20 + 7
	data := random(2, size)
	obj := put(t, store, "film", data)
	for _, r := range []struct{ offset, length int64 }{
		{0, size}, {0, 1}, {size - 1, 1}, {1, size - 1}, {0, size - 1}, {1 << 20, 1 << 20},
	} {
		t.Run(fmt.Sprintf("%d+%d", r.offset, r.length), func(t *testing.T) {
			t.Parallel()
			body, err := store.Open(t.Context(), obj, r.offset, r.length)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data[r.offset:r.offset+r.length]) {
				t.Errorf("got %d other bytes", len(got))
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	// What a submitter says of the size is held against the object's own.
	short, long := obj, obj
	short.Size, long.Size = size-1, size+1
	_, err := store.Open(t.Context(), short, 0, 10)
	wantKind(t, err, staging.Changed)
	_, err = store.Open(t.Context(), short, 0, short.Size)
	wantKind(t, err, staging.Changed)
	_, err = store.Open(t.Context(), long, 0, 10)
	wantKind(t, err, staging.Changed)
	for _, r := range []struct{ offset, length int64 }{{-1, 2}, {0, size + 1}, {size, 1}, {0, 0}, {5, -1}} {
		if _, err := store.Open(t.Context(), obj, r.offset, r.length); err == nil {
			t.Errorf("range of %d at %d was opened", r.length, r.offset)
		}
	}
}

func TestOpenEmptyObject(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	obj := put(t, store, "empty", nil)
	body, err := store.Open(t.Context(), obj, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	if got, err := io.ReadAll(body); err != nil || len(got) != 0 {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
}

func TestOpenAfterOverwriteIsChanged(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	obj := put(t, store, "film", random(3, 1000))
	put(t, store, "film", random(4, 1000))
	_, err := store.Open(t.Context(), obj, 0, 1000)
	wantKind(t, err, staging.Changed)
}

// An overwrite leaves a body that is open with the bytes of one version.
func TestOverwriteWhileReading(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	const size = 32 << 20 // more than sockets buffer
	before := random(5, size)
	obj := put(t, store, "film", before)
	body, err := store.Open(t.Context(), obj, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(body, head); err != nil {
		t.Fatal(err)
	}
	put(t, store, "film", random(6, size))
	rest, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(append(head, rest...), before) {
		t.Error("the body mixes two versions")
	}
}

// What the client of S3 would not ask for is refused at intake, and says what it
// is here: as long as it looked like a server that is away, a submission of such
// an object would be tried again for ever.
func TestBucketNamesAreThoseOfS3(t *testing.T) {
	t.Parallel()
	store := open(t, staging.Config{Endpoint: "127.0.0.1:1", AccessKey: "a", SecretKey: "b"}) // nobody is asked
	for _, name := range []string{
		"abc", "a-b", "a.b", "Legacy_Bucket:1", "0--0", strings.Repeat("a", 63), "1.2.3.x", "1.2.3.4.5", "1234", "1::2",
		"", "ab", strings.Repeat("a", 64), "-ab", "ab-", ".ab", "ab_", "a..b", "a.-b", "a-.b", "a/b", `a\b`, "a b", "Bücher", "a\x00b", "..",
		"192.168.0.1", "999.1.1.1", "abc\n",
	} {
		ours, theirs := uploads.CheckBucket(name), s3utils.CheckValidBucketName(name)
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%q: %v, but the client says %v", name, ours, theirs)
		}
		if ours == nil {
			continue
		}
		if !strings.HasSuffix(ours.Error(), "; give the staging bucket's name") {
			t.Errorf("%q: no remedy in %q", name, ours)
		}
		_, err := store.Stat(t.Context(), name, "film.mp4")
		wantKind(t, err, staging.Missing)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	_, err := store.Stat(t.Context(), bucket, "none")
	wantKind(t, err, staging.Missing)
	_, err = store.Stat(t.Context(), "no-such-bucket", "none")
	wantKind(t, err, staging.Missing)
	_, err = store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "none", ETag: "abc", Size: 5}, 0, 5)
	wantKind(t, err, staging.Missing)
	wantKind(t, store.List(t.Context(), "no-such-bucket", "", func(uploads.Object) error { return nil }), staging.Missing)
	if err := store.Delete(t.Context(), bucket, "none"); err != nil {
		t.Errorf("Delete of what is gone: %v", err)
	}
	obj := put(t, store, "film", random(7, 10))
	if err := store.Delete(t.Context(), bucket, "film"); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), obj, 0, 10)
	wantKind(t, err, staging.Missing)
}

func TestDenied(t *testing.T) {
	t.Parallel()
	server := devtest.S3(t, bucket)
	good := open(t, server.Config())
	obj := put(t, good, "film", random(8, 10))
	if err := good.Check(t.Context()); err != nil {
		t.Errorf("Check with the right secret: %v", err)
	}
	wrongSecret, wrongKey := server.Config(), server.Config()
	wrongSecret.SecretKey = "not-the-secret"
	wrongKey.AccessKey = "nobody"
	for name, config := range map[string]staging.Config{"secret": wrongSecret, "key": wrongKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := open(t, config)
			wantKind(t, bad.Check(t.Context()), staging.Denied)
			if _, err := bad.Stat(t.Context(), bucket, "film"); err == nil {
				t.Error("Stat was answered")
			}
			_, err := bad.Open(t.Context(), obj, 0, 10)
			wantKind(t, err, staging.Denied)
			if text := fmt.Sprintf("%v %+v %#v", err, err, config); strings.Contains(text, config.SecretKey.Reveal()) {
				t.Errorf("the secret shows in %s", text)
			}
		})
	}
}

func TestServerDownIsTransient(t *testing.T) {
	t.Parallel()
	server := devtest.S3(t, bucket)
	store := open(t, server.Config())
	obj := put(t, store, "film", random(9, 10))
	server.Stop()
	wantKind(t, store.Check(t.Context()), staging.Transient)
	_, err := store.Open(t.Context(), obj, 0, 10)
	wantKind(t, err, staging.Transient)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Stat(t.Context(), bucket, "film"); err != nil || got != obj {
		t.Errorf("after the start Stat = %v, %v; want %v", got, err, obj)
	}
}

// The connection that ends in mid-body, with and without a length in the answer.
func TestShortBodyIsUnexpectedEOF(t *testing.T) {
	t.Parallel()
	const size, sent = 1000, 600
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked=%v", chunked), func(t *testing.T) {
			t.Parallel()
			store := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("ETag", `"abc"`)
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				if !chunked {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				}
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(make([]byte, sent))
				_ = http.NewResponseController(w).Flush()
			})
			body, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: size}, 0, size)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = body.Close() }()
			n, err := io.Copy(io.Discard, body)
			if n != sent || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("read %d bytes and %v, want %d and io.ErrUnexpectedEOF", n, err, sent)
			}
			wantKind(t, err, staging.Transient)
		})
	}
}

// A server that ignores If-Match or Range is found out by its answer.
func TestOpenChecksTheAnswer(t *testing.T) {
	t.Parallel()
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"abc"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = w.Write(make([]byte, 1000))
		if r.Header.Get("If-Match") == "" {
			t.Error("no If-Match in the request")
		}
	})
	_, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "other", Size: 1000}, 0, 1000)
	wantKind(t, err, staging.Changed)
	_, err = store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: 1000}, 10, 100)
	wantKind(t, err, staging.Transient)
	if _, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", Size: 10}, 0, 10); err == nil {
		t.Error("an object without an ETag was opened")
	}
}

// Something on the way answers in the place of staging, with a page of its own
// and a success: that says nothing of the object. Nor does it that the clock here
// is off.
func TestAnswersThatAreNotOfTheObject(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			_, _ = w.Write([]byte("<html>back soon</html>"))
		},
		"a wrong clock": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			if r.Method != http.MethodHead {
				_, _ = w.Write([]byte(`<Error><Code>RequestTimeTooSkewed</Code><Message>too large</Message></Error>`))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := serve(t, answer)
			_, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: 1000}, 0, 1000)
			wantKind(t, err, staging.Transient)
			if name == "a wrong clock" {
				return // the answer to a HEAD has no body that says why
			}
			_, err = store.Stat(t.Context(), bucket, "k")
			wantKind(t, err, staging.Transient)
			_, _, err = store.StatDigest(t.Context(), bucket, "k")
			wantKind(t, err, staging.Transient)
		})
	}
}

// What has a version is read by it.
func TestOpenAsksForTheVersion(t *testing.T) {
	t.Parallel()
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("versionId"); got != "v7" {
			t.Errorf("versionId=%q", got)
		}
		w.Header().Set("ETag", `"abc"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Range", "bytes 5-14/20")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 10))
	})
	body, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", Version: "v7", ETag: "abc", Size: 20}, 5, 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
}

// Open makes one request and does not repeat it: retries are the caller's.
func TestOpenIsNotRetried(t *testing.T) {
	t.Parallel()
	requests := make(chan string, 10)
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Method
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err := store.Open(t.Context(), uploads.Object{Bucket: bucket, Key: "k", ETag: "abc", Size: 10}, 0, 10)
	wantKind(t, err, staging.Transient)
	if len(requests) != 1 || <-requests != http.MethodGet {
		t.Errorf("%d requests, want one GET", len(requests))
	}
}

func serve(t *testing.T, handler http.HandlerFunc) *staging.Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, staging.Config{Endpoint: server.URL, AccessKey: "a", SecretKey: "s", PathStyle: true})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	const size = 32 << 20
	obj := put(t, store, "film", random(10, size))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := store.Open(ctx, obj, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	cancel()
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("read after the cancel: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	const count = 1100 // more than a page
	want := map[string]int64{}
	for i := range count {
		key := fmt.Sprintf("many/%02d/%04d.mp4", i%7, i)
		put(t, store, key, make([]byte, i))
		want[key] = int64(i)
	}
	put(t, store, "other", nil)
	got := map[string]int64{}
	var sample uploads.Object
	err := store.List(t.Context(), bucket, "many/", func(obj uploads.Object) error {
		got[obj.Key] = obj.Size
		sample = obj
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	if stat, err := store.Stat(t.Context(), bucket, sample.Key); err != nil || stat != sample {
		t.Errorf("Stat = %v, %v; the listing says %v", stat, err, sample)
	}

	enough := errors.New("enough")
	calls := 0
	err = store.List(t.Context(), bucket, "many/", func(uploads.Object) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("yield's error: got %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = store.List(ctx, bucket, "many/", func(uploads.Object) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("List with a cancelled context: %v", err)
	}
}

func TestPutInParts(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	const size = 100<<20 + 11
	data := random(11, size)
	// Only Read: the size and the bytes are all that Put is given.
	obj, err := store.Put(t.Context(), bucket, "large", "video/mp4", struct{ io.Reader }{bytes.NewReader(data)}, size)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(obj.ETag, "-7") {
		t.Errorf("ETag %s is not that of 7 parts", obj.ETag)
	}
	body, err := store.Open(t.Context(), obj, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	got, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other bytes come back")
	}
}

func TestPutFromShortSourceStoresNothing(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	for _, size := range []int64{1000, 40 << 20} {
		_, err := store.Put(t.Context(), bucket, "short", "", io.LimitReader(zeros{}, size-1), size)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Put of %d bytes from a source one shorter: %v", size, err)
		}
		_, err = store.Stat(t.Context(), bucket, "short")
		wantKind(t, err, staging.Missing)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestMakeBucketAgain(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	if err := store.MakeBucket(t.Context(), bucket); err != nil {
		t.Error(err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"":                         "missing",
		"ftp://host":               "scheme",
		"https://host/bucket":      "more than scheme and host",
		"https://user:secret@host": "more than scheme and host",
	} {
		_, err := staging.New(staging.Config{Endpoint: endpoint, AccessKey: "a", SecretKey: providers.Secret("s")})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q): %v, want a word of %q", endpoint, err, want)
		}
	}
	for _, endpoint := range []string{"127.0.0.1:9000", "http://127.0.0.1:9000", "https://s3.example.com/"} {
		store, err := staging.New(staging.Config{Endpoint: endpoint, AccessKey: "a", SecretKey: "s"})
		if err != nil {
			t.Errorf("New(%q): %v", endpoint, err)
			continue
		}
		store.Close()
	}
}

// BenchmarkOpen reads ranges of 8 MiB from an S3 server over a folder.
func BenchmarkOpen(b *testing.B) {
	const size, length = 256 << 20, 8 << 20
	store, err := staging.New(devtest.S3(b, bucket).Config())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	obj, err := store.Put(b.Context(), bucket, "film", "", zeros{}, size)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(length)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 128<<10)
		for pb.Next() {
			body, err := store.Open(b.Context(), obj, rand.Int64N(size/length)*length, length)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, buf); err != nil {
				b.Error(err)
			}
			_ = body.Close()
		}
	})
}
