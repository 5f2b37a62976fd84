package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mediaferry/internal/uploads"
)

// Without credentials of staging a file goes by a URL of the API, and only the
// bytes do: the token of the API is none of staging's business.
func TestPushFileByURL(t *testing.T) {
	t.Parallel()
	uc := useCases()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "sixsix" || r.ContentLength != 6 || r.Method != http.MethodPut || r.Header.Get("Authorization") != "" {
			t.Errorf("%s of %d bytes, %q, authorization %q, %v", r.Method, r.ContentLength, body, r.Header.Get("Authorization"), err)
		}
		if r.URL.Query().Get("refuse") != "" {
			http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
			return
		}
		uc.Put(uploads.Object{Bucket: "staging", Key: "incoming/default/1/film.mp4", ETag: "e", Size: 6})
	}))
	t.Cleanup(store.Close)
	uc.PutURL = store.URL + "/x?signature=hidden"
	out, progress, err := pushFile(t, &memory{uc: uc, byURL: true}, "DIR/film.mp4", "--to", "main", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	if got := "completed  film.mp4 → main  asset asset-1  http://there/asset-1  (6 B in 1.5s)\n"; out != got {
		t.Errorf("printed %q, want %q", out, got)
	}
	if !strings.Contains(progress, "film.mp4: staging 100%  6 B of 6 B") {
		t.Errorf("progress:\n%s", progress)
	}
	for name, tc := range map[string]struct {
		url  string
		args []string
		want string
	}{
		"refused":     {store.URL + "/x?signature=hidden&refuse=1", nil, "SignatureDoesNotMatch"},
		"unreachable": {"http://127.0.0.1:1/x?signature=hidden", nil, "refused"},
		"no URLs":     {"", nil, "presign.bucket"},
		"key":         {uc.PutURL, []string{"--key", "mine"}, "--staging-endpoint"},
	} {
		uc := useCases()
		uc.PutURL = tc.url
		_, _, err := pushFile(t, &memory{uc: uc, byURL: true}, append([]string{"DIR/film.mp4", "--to", "main", "--patience", "0"}, tc.args...)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, want %q and no signature", name, err, tc.want)
		}
	}
}
