package sink_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"mediaferry/bench/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type bundle struct {
	server *httptest.Server
	client *http.Client
}

// setup serves a sink and returns a client of it, with or without trailers.
func setup(t *testing.T, trailing bool) (*minio.Core, bundle) {
	t.Helper()
	server := httptest.NewServer(sink.New())
	t.Cleanup(server.Close)
	transport := server.Client().Transport
	core, err := minio.NewCore(strings.TrimPrefix(server.URL, "http://"), &minio.Options{
		Creds:           credentials.NewStaticV4("access", "secret", ""),
		Region:          "us-east-1",
		Transport:       transport,
		TrailingHeaders: trailing,
		MaxRetries:      1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return core, bundle{server: server, client: server.Client()}
}

func (b bundle) stats(t *testing.T) sink.Stats {
	t.Helper()
	resp := b.send(t, http.MethodGet, "/_stats", nil, nil)
	var st sink.Stats
	if err := json.Unmarshal([]byte(resp.body), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (b bundle) send(t *testing.T, method, path string, body io.Reader, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

func crc64(data []byte) string {
	h := crc64nvme.New()
	_, _ = h.Write(data)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// TestPut sends one object in each framing that the client knows.
func TestPut(t *testing.T) {
	t.Parallel()
	data := noise(300_000)
	for name, tc := range map[string]struct {
		trailing bool
		opts     minio.PutObjectOptions
		md5      bool
	}{
		"plain":                    {opts: minio.PutObjectOptions{DisableContentSha256: true}},
		"signed chunks":            {},
		"unsigned chunks, trailer": {trailing: true, opts: minio.PutObjectOptions{DisableContentSha256: true, Checksum: minio.ChecksumCRC64NVME}},
		"signed chunks, trailer":   {trailing: true, opts: minio.PutObjectOptions{Checksum: minio.ChecksumCRC64NVME}},
		"crc32c trailer":           {trailing: true, opts: minio.PutObjectOptions{Checksum: minio.ChecksumCRC32C}},
		"md5":                      {opts: minio.PutObjectOptions{DisableContentSha256: true}, md5: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, b := setup(t, tc.trailing)
			sum := ""
			if tc.md5 {
				raw := md5.Sum(data)
				sum = base64.StdEncoding.EncodeToString(raw[:])
			}
			info, err := core.PutObject(t.Context(), "bucket", "a/key", bytes.NewReader(data), int64(len(data)), sum, "", tc.opts)
			if err != nil {
				t.Fatal(err)
			}
			if info.ChecksumCRC64NVME != crc64(data) {
				t.Errorf("answered crc64nvme %q, want %q", info.ChecksumCRC64NVME, crc64(data))
			}
			if _, err := hex.DecodeString(info.ETag); (err == nil && len(info.ETag) == 32) != tc.md5 {
				t.Errorf("ETag %q: looks like an MD5 only if one was computed", info.ETag)
			}
			st := b.stats(t)
			got := st.Keys["bucket/a/key"]
			if got.FirstByte.IsZero() || got.LastByte.Before(got.FirstByte) || got.Completed.Before(got.LastByte) {
				t.Errorf("times out of order: %+v", got)
			}
			want := sink.Stats{
				Objects: 1, Bytes: int64(len(data)), Received: int64(len(data)), Puts: 1,
				Keys: map[string]sink.KeyStats{"bucket/a/key": {
					Size: int64(len(data)), CRC64NVME: crc64(data), Parts: 1,
					FirstByte: got.FirstByte, LastByte: got.LastByte, Completed: got.Completed,
				}},
			}
			if diff := cmp.Diff(want, st); diff != "" {
				t.Errorf("stats (-want +got)\n%s", diff)
			}
		})
	}
}

// TestMultipart sends parts out of order, one of them twice, and lists them.
func TestMultipart(t *testing.T) {
	t.Parallel()
	for name, trailing := range map[string]bool{"plain": false, "trailers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, b := setup(t, trailing)
			ctx := t.Context()
			data := noise(3_000_000)
			cut := []int{0, 1_100_000, 2_300_000, 3_000_000}
			id, err := core.NewMultipartUpload(ctx, "bucket", "key", minio.PutObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			parts := make([]minio.CompletePart, 3)
			for _, n := range []int{3, 1, 2, 1} {
				parts[n-1] = putPart(ctx, t, core, id, n, data[cut[n-1]:cut[n]], trailing)
			}
			listed, err := core.ListObjectParts(ctx, "bucket", "key", id, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			var sizes []int64
			for _, p := range listed.ObjectParts {
				sizes = append(sizes, p.Size)
			}
			if diff := cmp.Diff([]int64{1_100_000, 1_200_000, 700_000}, sizes); diff != "" {
				t.Errorf("sizes of parts (-want +got)\n%s", diff)
			}
			if st := b.stats(t); st.Objects != 0 || st.Bytes != 0 {
				t.Errorf("an open upload counts as an object: %+v", st)
			}

			// S3's own rule: ascending order, each with the ETag that was answered.
			if _, err := core.CompleteMultipartUpload(ctx, "bucket", "key", id, []minio.CompletePart{parts[1], parts[0], parts[2]}, minio.PutObjectOptions{}); minio.ToErrorResponse(err).Code != "InvalidPartOrder" {
				t.Errorf("parts out of order: %v", err)
			}
			wrong := minio.CompletePart{PartNumber: 1, ETag: "no such"}
			if _, err := core.CompleteMultipartUpload(ctx, "bucket", "key", id, []minio.CompletePart{wrong}, minio.PutObjectOptions{}); minio.ToErrorResponse(err).Code != "InvalidPart" {
				t.Errorf("unknown ETag: %v", err)
			}
			info, err := core.CompleteMultipartUpload(ctx, "bucket", "key", id, parts, minio.PutObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if info.ChecksumCRC64NVME != crc64(data) {
				t.Errorf("whole object is %q, want %q", info.ChecksumCRC64NVME, crc64(data))
			}
			st := b.stats(t)
			if st.Objects != 1 || st.Bytes != 3_000_000 || st.Received != 4_100_000 || st.Puts != 4 || st.Keys["bucket/key"].Parts != 3 {
				t.Errorf("stats: %+v", st)
			}
			if _, err := core.CompleteMultipartUpload(ctx, "bucket", "key", id, parts, minio.PutObjectOptions{}); minio.ToErrorResponse(err).Code != "NoSuchUpload" {
				t.Errorf("completed twice: %v", err)
			}
		})
	}
}

func putPart(ctx context.Context, t *testing.T, core *minio.Core, id string, n int, data []byte, trailing bool) minio.CompletePart {
	t.Helper()
	opts := minio.PutObjectPartOptions{DisableContentSha256: true}
	if trailing {
		// The client fills the value in while it sends.
		opts.Trailer = http.Header{"X-Amz-Checksum-Crc64nvme": {crc64(data)}}
	}
	p, err := core.PutObjectPart(ctx, "bucket", "key", id, n, bytes.NewReader(data), int64(len(data)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return minio.CompletePart{PartNumber: n, ETag: p.ETag, ChecksumCRC64NVME: p.ChecksumCRC64NVME}
}

func TestCompleteRefusesWrongChecksum(t *testing.T) {
	t.Parallel()
	core, b := setup(t, false)
	id, err := core.NewMultipartUpload(t.Context(), "bucket", "key", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part := putPart(t.Context(), t, core, id, 1, noise(1000), false)
	body := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + part.ETag + "</ETag></Part></CompleteMultipartUpload>"
	got := b.send(t, http.MethodPost, "/bucket/key?uploadId="+id, strings.NewReader(body), map[string]string{"x-amz-checksum-crc64nvme": crc64(noise(999))})
	if got.status != http.StatusBadRequest || !strings.Contains(got.body, "BadDigest") {
		t.Errorf("wrong whole checksum: %d %s", got.status, got.body)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	core, b := setup(t, false)
	id, err := core.NewMultipartUpload(t.Context(), "bucket", "key", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	part := putPart(t.Context(), t, core, id, 1, noise(1000), false)
	if open, err := core.ListMultipartUploads(t.Context(), "bucket", "", "", "", "", 10); err != nil || len(open.Uploads) != 1 || open.Uploads[0].UploadID != id {
		t.Errorf("open uploads: %+v %v", open.Uploads, err)
	}
	if err := core.AbortMultipartUpload(t.Context(), "bucket", "key", id); err != nil {
		t.Fatal(err)
	}
	if _, err := core.CompleteMultipartUpload(t.Context(), "bucket", "key", id, []minio.CompletePart{part}, minio.PutObjectOptions{}); minio.ToErrorResponse(err).Code != "NoSuchUpload" {
		t.Errorf("complete after abort: %v", err)
	}
	if st := b.stats(t); st.Objects != 0 || st.Received != 1000 {
		t.Errorf("stats after abort: %+v", st)
	}
}

// TestRefusals sends what a faulty mover would and expects no object to count.
func TestRefusals(t *testing.T) {
	t.Parallel()
	data := "some bytes"
	chunk := "a\r\n" + data + "\r\n0\r\n"
	streaming := func(extra map[string]string) map[string]string {
		h := map[string]string{"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length": "10"}
		maps.Copy(h, extra)
		return h
	}
	trailer := map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc64nvme"}
	for name, tc := range map[string]struct {
		body   string
		header map[string]string
		code   string
	}{
		"wrong md5":         {data, map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(make([]byte, 16))}, "BadDigest"},
		"wrong checksum":    {data, map[string]string{"x-amz-checksum-crc64nvme": crc64([]byte("other"))}, "BadDigest"},
		"wrong crc32":       {data, map[string]string{"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"},
		"wrong trailer":     {chunk + "x-amz-checksum-crc64nvme:" + crc64([]byte("other")) + "\r\n\r\n", streaming(trailer), "BadDigest"},
		"missing trailer":   {chunk + "\r\n", streaming(trailer), "BadDigest"},
		"short":             {"4\r\nsome\r\n0\r\n\r\n", streaming(nil), "IncompleteBody"},
		"long":              {"b\r\n" + data + "!\r\n0\r\n\r\n", streaming(nil), "IncompleteBody"},
		"no last chunk":     {"a\r\n" + data + "\r\n", streaming(nil), "IncompleteBody"},
		"not chunked":       {data, streaming(nil), "IncompleteBody"},
		"server-side copy":  {"", map[string]string{"X-Amz-Copy-Source": "/a/b"}, "NotImplemented"},
		"no decoded length": {chunk, map[string]string{"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "InvalidRequest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b := setup(t, false)
			got := b.send(t, http.MethodPut, "/bucket/key", strings.NewReader(tc.body), tc.header)
			if got.status < 400 || !strings.Contains(got.body, tc.code) {
				t.Errorf("answered %d %s, want %s", got.status, got.body, tc.code)
			}
			if st := b.stats(t); st.Objects != 0 || st.Bytes != 0 {
				t.Errorf("counted: %+v", st)
			}
		})
	}
}

// TestBrokenConnection cuts a PUT in the middle: what arrived is received, but
// no object.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	_, b := setup(t, false)
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.server.URL+"/bucket/key", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 1 << 20
	ended := make(chan error, 1)
	go func() {
		resp, err := b.client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		ended <- err
	}()
	if _, err := feed.Write(noise(100_000)); err != nil {
		t.Fatal(err)
	}
	// The client gives up in mid-body and drops the connection.
	if err := feed.CloseWithError(io.ErrUnexpectedEOF); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("a PUT that was cut succeeded")
	}
	b.server.Close() // waits for the handler
	st := b.server.Config.Handler.(*sink.Server).Stats()
	if st.Objects != 0 || st.Puts != 0 {
		t.Errorf("half an object counts: %+v", st)
	}
}

func TestListAndHead(t *testing.T) {
	t.Parallel()
	core, b := setup(t, false)
	for _, key := range []string{"a", "dir/b", "dir/c", "e"} {
		opts := minio.PutObjectOptions{DisableContentSha256: true, UserMetadata: map[string]string{"Mtime": "12.5"}}
		if _, err := core.PutObject(t.Context(), "bucket", key, strings.NewReader(key), int64(len(key)), "", "", opts); err != nil {
			t.Fatal(err)
		}
	}
	list := func(opts minio.ListObjectsOptions) (keys []string) {
		t.Helper()
		for o := range core.Client.ListObjects(t.Context(), "bucket", opts) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			keys = append(keys, o.Key)
		}
		return keys
	}
	// A page of one object at a time: truncation and continuation are followed.
	for name, tc := range map[string]struct {
		opts minio.ListObjectsOptions
		want []string
	}{
		"all":       {minio.ListObjectsOptions{Recursive: true}, []string{"a", "dir/b", "dir/c", "e"}},
		"pages":     {minio.ListObjectsOptions{Recursive: true, MaxKeys: 1}, []string{"a", "dir/b", "dir/c", "e"}},
		"delimiter": {minio.ListObjectsOptions{}, []string{"a", "e", "dir/"}}, // the client tells prefixes last
		"version 1": {minio.ListObjectsOptions{UseV1: true, Recursive: true, MaxKeys: 1}, []string{"a", "dir/b", "dir/c", "e"}},
		"prefix":    {minio.ListObjectsOptions{Prefix: "dir/", Recursive: true}, []string{"dir/b", "dir/c"}},
	} {
		got := list(tc.opts)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}

	info, err := core.StatObject(t.Context(), "bucket", "dir/b", minio.StatObjectOptions{})
	if err != nil || info.Size != 5 || info.UserMetadata["Mtime"] != "12.5" {
		t.Errorf("stat: %+v %v", info, err)
	}
	if err := core.RemoveObject(t.Context(), "bucket", "dir/b", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.StatObject(t.Context(), "bucket", "dir/b", minio.StatObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		t.Errorf("stat after delete: %v", err)
	}
	b.send(t, http.MethodPost, "/_reset", nil, nil)
	if diff := cmp.Diff(sink.Stats{Keys: map[string]sink.KeyStats{}}, b.stats(t)); diff != "" {
		t.Errorf("after reset (-want +got)\n%s", diff)
	}
}

// TestCombinedChecksum checks the combination of parts against hashing at one go,
// at lengths around the powers of two that it is built from.
func TestCombinedChecksum(t *testing.T) {
	t.Parallel()
	core, b := setup(t, false)
	for _, size := range []int{2, 3, 255, 256, 257, 65_535, 65_537} {
		data := noise(size)
		id, err := core.NewMultipartUpload(t.Context(), "bucket", "key", minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts := []minio.CompletePart{
			putPart(t.Context(), t, core, id, 1, data[:size/2], false),
			putPart(t.Context(), t, core, id, 2, data[size/2:], false),
		}
		if _, err := core.CompleteMultipartUpload(t.Context(), "bucket", "key", id, parts, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := b.stats(t).Keys["bucket/key"].CRC64NVME; got != crc64(data) {
			t.Errorf("size %d: %s, want %s", size, got, crc64(data))
		}
	}
}
