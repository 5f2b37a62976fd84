package service_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/client"
)

// A file that is put by a URL of the API is ready to be submitted. The URL takes
// these bytes and no others, under a key of the tenant's.
func TestPresignedPut(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.Presign.Bucket = "staging"
	b.dispatcher(t)
	b.worker(t, "w1")
	data := b.put(t, "elsewhere", 3*mib)
	sum := sha256.Sum256(data)
	ask := client.Presign{Name: "film one.mp4", Size: int64(len(data)), ContentType: "video/mp4", SHA256: hex.EncodeToString(sum[:])}
	signed, err := b.api.Presign(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(signed.Source.Key, "incoming/default/") || !strings.HasSuffix(signed.Source.Key, "/film one.mp4") {
		t.Errorf("the key is %s", signed.Source.Key)
	}
	if err := b.api.PutFile(t.Context(), signed, bytes.NewReader(data[:mib]), mib); err == nil {
		t.Error("another length was taken")
	}
	other := bytes.Clone(data)
	other[mib] ^= 1
	if err := b.api.PutFile(t.Context(), signed, bytes.NewReader(other), int64(len(other))); err == nil {
		t.Error("other bytes were taken")
	}
	if err := b.api.PutFile(t.Context(), signed, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	elsewhere := signed
	elsewhere.URL = strings.Replace(signed.URL, "incoming/default", "incoming/others", 1)
	if err := b.api.PutFile(t.Context(), elsewhere, bytes.NewReader(data), int64(len(data))); err == nil || strings.Contains(err.Error(), "X-Amz-Signature") {
		t.Errorf("another key: %v", err)
	}
	u, _, err := b.api.Submit(t.Context(), client.Submission{Account: "acc", Source: signed.Source})
	if err != nil {
		t.Fatal(err)
	}
	if b.mustComplete(t, u.ID, data).Name != "film one.mp4" {
		t.Errorf("it is called %s", u.Name)
	}

	for name, tc := range map[string]struct {
		change func(*client.Presign)
		want   string
	}{
		"path":    {func(p *client.Presign) { p.Name = "../../other/film.mp4" }, "body.name"},
		"no name": {func(p *client.Presign) { p.Name = "" }, "body.name"},
		"no size": {func(p *client.Presign) { p.Size = 0 }, "body.size"},
		"5 GiB":   {func(p *client.Presign) { p.Size = 5<<30 + 1 }, "body.size"},
		"digest":  {func(p *client.Presign) { p.SHA256 = "abcd" }, "body.sha256"},
		"type":    {func(p *client.Presign) { p.ContentType = "video\r\nX-Evil: 1" }, "body.content_type"},
		"life":    {func(p *client.Presign) { p.ExpiresSeconds = 604801 }, "body.expires_seconds"},
		"past":    {func(p *client.Presign) { p.ExpiresSeconds = -5 }, "body.expires_seconds"},
	} {
		bad := ask
		tc.change(&bad)
		_, err := b.api.Presign(t.Context(), bad)
		if diff := cmp.Diff([]string{tc.want}, fields(problemOf(t, err))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Without a bucket for them no URLs are made.
func TestNoPresignedPut(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.dispatcher(t)
	_, err := b.api.Presign(t.Context(), client.Presign{Name: "film.mp4", Size: 1})
	if e := problemOf(t, err); e.Status != 409 || !strings.Contains(e.Detail, "presign.bucket") {
		t.Errorf("%+v", e)
	}
}
