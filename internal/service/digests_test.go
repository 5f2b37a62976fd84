package service_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/client"
	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// tampered makes staging misread objects: of the nth read, counted from 1, one
// bit is another where flip says so. Without kept, the bucket names no checksum.
func (b *bundle) tampered(t *testing.T, kept bool, flip func(nth int64) bool) {
	t.Helper()
	target, err := url.Parse(b.cfg.Staging.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int64
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(res *http.Response) error {
			for name := range res.Header {
				if !kept && strings.HasPrefix(name, "X-Amz-Checksum-") {
					res.Header.Del(name)
				}
			}
			if res.Request.Method == http.MethodGet && res.Request.Header.Get("Range") != "" && flip(reads.Add(1)) {
				res.Body = &misread{ReadCloser: res.Body}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	b.cfg.Staging.Endpoint = server.URL
}

// misread has one bit of its first byte turned over.
type misread struct {
	io.ReadCloser

	done bool
}

func (m *misread) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 && !m.done {
		p[0], m.done = p[0]^1, true
	}
	return n, err
}

func nth(n ...int64) func(int64) bool {
	return func(read int64) bool {
		return slices.Contains(n, read)
	}
}

// compared returns the links of the whole object at a stage: who said what was
// expected, and what came of it.
func (b *bundle) compared(t *testing.T, id string, stage uploads.DigestStage) (links []string) {
	t.Helper()
	chain, err := b.api.Digests(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range chain.Links {
		if l.Part != 0 || l.Stage != string(stage) {
			continue
		}
		result := "not compared"
		if l.Compared && l.Matched {
			result = "matched"
		} else if l.Compared {
			result = "mismatch"
		}
		links = append(links, strings.TrimSpace(l.ExpectedFrom+" "+result))
	}
	return links
}

// Bytes that staging gave wrongly are noticed before anything is assembled, and
// read again; an object that is never read right fails its upload.
func TestMisreadObjects(t *testing.T) {
	t.Parallel()
	always := func(int64) bool { return true }
	for name, tt := range map[string]struct {
		part   hashing.Kind
		needed []hashing.Kind // before the upload begins
		size   int
		kept   bool // the bucket keeps a checksum
		pass   bool // source_check
		said   string
		flip   func(int64) bool

		cause uploads.Cause // "" for completed
		links []string
	}{
		"one read of several parts": {
			part: hashing.MD5, size: 5*mib + 7, kept: true, flip: nth(1),
			links: []string{"bucket mismatch", "bucket matched"},
		},
		"every read": {
			part: hashing.SHA1, size: 3 * mib, kept: true, flip: always,
			cause: uploads.CauseMismatch, links: []string{"bucket mismatch", "bucket mismatch", "bucket mismatch"},
		},
		"every read of one part": {
			part: hashing.MD5, size: 1000, kept: true, flip: always, cause: uploads.CauseMismatch,
		},
		"nothing is known": {
			part: hashing.MD5, size: 2 * mib, flip: nth(), links: []string{"not compared"},
		},
		"a pass, and one read": {
			part: hashing.MD5, size: 2 * mib, pass: true, flip: nth(2),
			links: []string{"digest pass mismatch", "digest pass matched"},
		},
		"the pass itself, where the bucket knows better": {
			part: hashing.MD5, needed: []hashing.Kind{hashing.SHA1}, size: 2 * mib, kept: true, flip: nth(1),
			links: []string{"bucket mismatch", "bucket matched", "bucket matched", "digest pass matched"},
		},
		"the submitter is wrong": {
			part: hashing.MD5, size: 2 * mib, kept: true, flip: nth(), said: "crc64nvme:0000000000000001",
			cause: uploads.CauseDigestMismatch, links: []string{"bucket matched", "submitter mismatch"},
		},
		"the submitter is wrong of one part": {
			part: hashing.MD5, size: 1000, flip: nth(), said: "sha256:" + strings.Repeat("ab", 32),
			cause: uploads.CauseDigestMismatch,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			l.PartDigest, l.ObjectDigests = tt.part, tt.needed
			b := setup(t, l)
			data := b.put(t, "film.mp4", tt.size)
			b.tampered(t, tt.kept, tt.flip)
			if tt.pass {
				b.cfg.Accounts[0].SourceCheck = "pass"
			}
			b.dispatcher(t)
			b.worker(t, "w1")
			sub := client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "film.mp4"}}
			if tt.said != "" {
				sub.Digests = []string{tt.said}
			}
			u, _, err := b.api.Submit(t.Context(), sub)
			if err != nil {
				t.Fatal(err)
			}
			if tt.cause == "" {
				b.mustComplete(t, u.ID, data)
			} else {
				end := b.wait(t, u.ID)
				if end.Failure == nil || end.Failure.Cause != string(tt.cause) || end.Failure.Stage != string(uploads.StageStaging) {
					t.Errorf("%s, failure %+v, want %s at staging", end.State, end.Failure, tt.cause)
				}
				if seen := b.platform.Seen(uuid.MustParse(u.ID)); len(seen.Assets) > 0 {
					t.Error("wrong bytes became an asset")
				}
			}
			if diff := cmp.Diff(tt.links, b.compared(t, u.ID, uploads.StageStaging)); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
		})
	}
}

// A digest pass that is the one to be wrong cannot be told from reads that are.
// The upload fails, and its retry makes another pass.
func TestAWrongPassIsNotKept(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"several parts": 2 * mib, "one part": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			l.ObjectDigests = []hashing.Kind{hashing.SHA1}
			b := setup(t, l)
			data := b.put(t, "film.mp4", size)
			b.tampered(t, false, nth(1))
			b.dispatcher(t)
			b.worker(t, "w1")
			id := b.submit(t, "film.mp4").ID
			if u := b.wait(t, id); u.Failure == nil || u.Failure.Stage != string(uploads.StageStaging) {
				t.Fatalf("%s, failure %+v, want one at staging", u.State, u.Failure)
			}
			eventually(t, "a retry", func() bool {
				_, err := b.api.Retry(t.Context(), id)
				return err == nil // the session is discarded first
			})
			ctx, cancel := context.WithTimeout(t.Context(), testPatience)
			defer cancel()
			u, err := b.api.Wait(ctx, id, nil)
			if err != nil || u.State != string(uploads.Completed) {
				t.Fatalf("after the retry: %s, %+v, %v; want completed", u.State, u.Failure, err)
			}
			if got, _ := b.platform.Content(u.Asset.ID); string(got) != string(data) {
				t.Error("the asset has other bytes")
			}
		})
	}
}

// What was only listed is asked for its checksum before it is opened.
func TestAListedObjectIsCompared(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "films/one.mp4", 2*mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	if _, err := b.api.SubmitPrefix(t.Context(), client.PrefixSubmission{Account: "acc", Bucket: "staging", Prefix: "films/"}); err != nil {
		t.Fatal(err)
	}
	page, err := b.api.List(t.Context(), client.Filter{})
	if err != nil || len(page.Uploads) != 1 {
		t.Fatalf("%+v, %v, want one upload", page, err)
	}
	id := page.Uploads[0].ID
	b.wait(t, id)
	if diff := cmp.Diff([]string{"bucket matched"}, b.compared(t, id, uploads.StageStaging)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// What a platform put together and found to be other bytes is sent again once,
// all of it, whatever the platform still holds. An asset that is there and wrong
// is not made a second time.
func TestPlatformMismatch(t *testing.T) {
	t.Parallel()
	const size = 3 * mib
	wrong := &providers.Error{Kind: providers.Mismatch, Call: "finish", Err: providers.ErrWrongAsset}
	differs := &providers.Error{Kind: providers.Mismatch, Call: "finish"}
	for name, tt := range map[string]struct {
		err      *providers.Error
		times    int
		apply    bool
		finishes int
		bytes    int64
		fails    bool
	}{
		"once":           {differs, 1, false, 2, 2 * size, false},
		"each time":      {differs, 100, false, 2, 2 * size, true},
		"the asset made": {wrong, 1, true, 1, size, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			l.ObjectDigests = []hashing.Kind{hashing.SHA1} // by which the platform finds what it holds
			b := setup(t, l)
			data := b.put(t, "film.mp4", size)
			b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
				switch {
				case call == providers.CallFinish && nth <= tt.times:
					return tt.apply, tt.err
				case call == providers.CallAbort:
					return false, &providers.Error{Kind: providers.Transient, Call: "abort"} // so that parts stay
				}
				return true, nil
			})
			b.dispatcher(t)
			b.worker(t, "w1")
			id := b.submit(t, "film.mp4").ID
			if tt.fails {
				u := b.wait(t, id)
				if u.Failure == nil || u.Failure.Stage != string(uploads.StagePlatform) || u.Failure.Cause != string(uploads.CauseMismatch) {
					t.Errorf("%s, failure %+v, want a mismatch at the platform", u.State, u.Failure)
				}
			} else {
				b.mustComplete(t, id, data)
			}
			if n := b.platform.Calls(providers.CallFinish); n != tt.finishes {
				t.Errorf("finish was called %d times, want %d", n, tt.finishes)
			}
			if seen := b.platform.Seen(uuid.MustParse(id)); seen.Bytes != tt.bytes {
				t.Errorf("%d bytes were sent, want %d", seen.Bytes, tt.bytes)
			}
			if links := b.compared(t, id, uploads.StageStaging); len(links) == 0 || links[0] != "bucket matched" {
				t.Errorf("links at staging %q, want the one that matched", links)
			}
		})
	}
}

// A dispatcher that learns of a wrong asset and dies before the upload has
// failed leaves the asset to the next one's probe, which must not take it.
func TestAWrongAssetIsNotTakenByAProbe(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", mib)
	inFinish := make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallFinish && nth == 1 {
			close(inFinish)
			return true, &providers.Error{Kind: providers.UnknownOutcome, Call: "finish"}
		}
		return true, nil
	})
	stop := b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-inFinish
	stop()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), `INSERT INTO part_failures (upload_id, account, epoch, part, kind, stage, started_at, failed_at)
		VALUES ($1, 'acc', 1, 0, 'mismatch', 'platform', now(), now())`, id); err != nil {
		t.Fatal(err)
	}
	b.dispatcher(t)
	if u := b.wait(t, id); u.Failure == nil || u.Failure.Stage != string(uploads.StagePlatform) {
		t.Errorf("%s, failure %+v, want a mismatch at the platform", u.State, u.Failure)
	}
}
