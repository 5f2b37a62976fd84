package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// Whatever the body of a submission is: it is accepted, and then again under
// its key as the same upload, or refused with what is wrong with it. Nothing of
// it is an internal error.
func FuzzSubmission(f *testing.F) {
	for _, seed := range []string{
		first, `{}`, `[]`, `null`, `{"account":1}`, `{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4","etag":"x"}}`,
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"digests":["sha1:00","md5"],"priority":1e99}`,
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"not_before":"0000-00-00T00:00:00Z","labels":{"":"\u0000"}}`,
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"idempotency_key":"k","name":"..","options":{"a":"b"}}`,
		strings.Repeat("[", 10_000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		uc := &apitest.UseCases{
			Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "a/1.mp4", ETag: "e1", Size: 10}},
		}
		handler := apitest.Handler(uc)
		post := func() *httptest.ResponseRecorder {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/uploads", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, req)
			return answer
		}
		answer := post()
		switch {
		case answer.Code == http.StatusCreated:
			var u wire.Upload
			if err := json.Unmarshal(answer.Body.Bytes(), &u); err != nil || u.ID == "" || u.Name == "" || u.Tenant == "" {
				t.Fatalf("accepted as %s, %v", answer.Body, err)
			}
			again := post()
			var same wire.Upload
			if err := json.Unmarshal(again.Body.Bytes(), &same); err != nil || (u.IdempotencyKey != "") != (same.ID == u.ID) {
				t.Fatalf("key %q: first %s, then %s, %v", u.IdempotencyKey, u.ID, again.Body, err)
			}
		case answer.Code >= 400 && answer.Code < 500:
			var p problem
			if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || p.Status != answer.Code || p.Detail == "" {
				t.Fatalf("refused with %s, %v", answer.Body, err)
			}
			if answer.Code == http.StatusUnprocessableEntity && len(p.Errors) == 0 {
				t.Fatalf("refused, and no field is named: %s", answer.Body)
			}
			for _, e := range p.Errors {
				if e.Message == "" {
					t.Fatalf("refused, and it is not said why: %s", answer.Body)
				}
			}
		default:
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
	})
}
