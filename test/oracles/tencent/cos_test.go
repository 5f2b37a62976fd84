package tencent

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tencentyun/cos-go-sdk-v5"

	"mediaferry/internal/upstreams"
)

const bucket = "examplebucket-1250000000"

func openCOS(t *testing.T) (*upstreams.COS, *cos.Client) {
	t.Helper()
	storage := upstreams.NewCOS(upstreams.COSConfig{
		Keys: map[string]string{secretID: secretKey}, Buckets: []string{bucket}, Dir: t.TempDir(),
	})
	client := cos.NewClient(
		&cos.BaseURL{BucketURL: &url.URL{Scheme: "https", Host: bucket + ".cos.ap-beijing.myqcloud.com"}},
		&http.Client{Transport: &cos.AuthorizationTransport{SecretID: secretID, SecretKey: secretKey, Transport: serve(t, storage)}},
	)
	return storage, client
}

func content(t *testing.T, client *cos.Client, key string) []byte {
	t.Helper()
	resp, err := client.Object.Get(t.Context(), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The client compares the CRC-64 of each part and of the whole, and the MD5
// that it expects as a part's ETag.
func TestUpload(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"in one call": 1 << 20, "multipart": 3<<20 + 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := openCOS(t)
			path, data := file(t, "f.mp4", size)
			const key = "films/ä b+c(1)/f.mp4"
			if _, _, err := client.Object.Upload(t.Context(), key, path, &cos.MultiUploadOptions{PartSize: 1, ThreadPoolSize: 3}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, client, key), data) {
				t.Error("the object is not what was sent")
			}
			if resp, err := client.Object.Head(t.Context(), key, nil); err != nil || resp.ContentLength != int64(size) {
				t.Errorf("HEAD: %v", err)
			}
		})
	}
}

// A second client takes up what a first one left: it lists uploads and parts,
// and sends only what is missing.
func TestUploadResumes(t *testing.T) {
	t.Parallel()
	storage, client := openCOS(t)
	path, data := file(t, "f.mp4", 5<<20+1)
	const key = "films/f.mp4"
	options := func() *cos.MultiUploadOptions { return &cos.MultiUploadOptions{PartSize: 1, CheckPoint: true} }
	storage.AddFaults(upstreams.Fault{Action: upstreams.COSUploadPart, From: 4, ErrorCode: "AccessDenied"})
	if _, _, err := client.Object.Upload(t.Context(), key, path, options()); err == nil {
		t.Fatal("the upload did not break off")
	}
	storage.ClearFaults()
	before := count(storage.Calls(), upstreams.COSUploadPart)
	if _, _, err := client.Object.Upload(t.Context(), key, path, options()); err != nil {
		t.Fatal(err)
	}
	if n := count(storage.Calls(), upstreams.COSUploadPart) - before; n != 3 {
		t.Errorf("%d parts were sent, 3 were missing", n)
	}
	if n := count(storage.Calls(), upstreams.COSInitiate); n != 1 {
		t.Errorf("%d uploads were opened", n)
	}
	if !bytes.Equal(content(t, client, key), data) {
		t.Error("the object is not what was sent")
	}
}

// A bit that flips in a part or in the whole must not pass the client.
func TestUploadSeesFlippedBits(t *testing.T) {
	t.Parallel()
	for _, action := range []string{upstreams.COSPutObject, upstreams.COSUploadPart, upstreams.COSComplete} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			storage, client := openCOS(t)
			size := 2 << 20
			if action == upstreams.COSPutObject {
				size = 3
			}
			path, _ := file(t, "f.mp4", size)
			storage.AddFaults(upstreams.Fault{Action: action, FlipBit: true})
			_, _, err := client.Object.Upload(t.Context(), "f.mp4", path, &cos.MultiUploadOptions{PartSize: 1})
			if err == nil || !strings.Contains(err.Error(), "verification failed") {
				t.Errorf("the upload ended with %v", err)
			}
		})
	}
}

// The client reads the code of a refusal, also of a refusal within a 200.
func TestRefusals(t *testing.T) {
	t.Parallel()
	storage, client := openCOS(t)
	_, err := client.Object.UploadPart(t.Context(), "f.mp4", "gone", 1, strings.NewReader("x"), nil)
	if e, ok := cos.IsCOSError(err); !ok || e.Code != "NoSuchUpload" || e.RequestID == "" {
		t.Errorf("part of an unknown upload: %v", err)
	}
	if _, err := client.Object.AbortMultipartUpload(t.Context(), "f.mp4", "gone"); !cos.IsNotFoundError(err) {
		t.Errorf("abort of an unknown upload: %v", err)
	}
	if _, err := client.Object.Get(t.Context(), "nothing", nil); !cos.IsNotFoundError(err) {
		t.Errorf("an unknown object: %v", err)
	}
	storage.AddFaults(upstreams.Fault{Action: upstreams.COSComplete, Text: "<Error><Code>InternalError</Code><Message>m</Message></Error>"})
	path, _ := file(t, "f.mp4", 2<<20)
	if _, _, err := client.Object.Upload(t.Context(), "f.mp4", path, &cos.MultiUploadOptions{PartSize: 1}); err == nil {
		t.Error("a refusal within a 200 is taken for a success")
	}
}
