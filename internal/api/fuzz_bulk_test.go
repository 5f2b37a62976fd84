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

// Whatever the lines of a bulk submission are: each is submitted, there already, or
// rejected with a reason and its number, or the whole is refused with what is wrong.
func FuzzBulkSubmission(f *testing.F) {
	const good = `{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"}}`
	for _, seed := range []string{
		good, good + "\n" + good, good + "\n{\n\n[]\nnull", good + good, "\xff\x00", `{"account":"main","size":-1}`,
		"account,bucket,key\nmain,inbox,a/1.mp4\n", "account,account\n", "account,label.\nmain,\"", "size,priority,not_before\n1e9,x,now\n",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, body string, csv bool) {
		uc := &apitest.UseCases{
			Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "a/1.mp4", ETag: "e1", Size: 10}},
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/uploads/bulk", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/x-ndjson")
		if csv {
			req.Header.Set("Content-Type", "text/csv")
		}
		answer := httptest.NewRecorder()
		apitest.Handler(uc).ServeHTTP(answer, req)
		switch {
		case answer.Code == http.StatusOK:
			var out wire.BulkResult
			if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil {
				t.Fatalf("%s: %v", answer.Body, err)
			}
			lines := 1 + strings.Count(body, "\n") + strings.Count(body, "\r")
			rejected := make(map[int]bool) // by line, of which more than one thing may be wrong
			for _, r := range out.Rejected {
				rejected[r.Line] = true
				if r.Line < 1 || r.Line > lines || r.Error == "" {
					t.Fatalf("line %d of %d is rejected with %q", r.Line, lines, r.Error)
				}
			}
			if n := out.Submitted + out.Known + len(rejected); n > lines {
				t.Fatalf("%d outcomes of %d lines: %s", n, lines, answer.Body)
			}
		case answer.Code >= 400 && answer.Code < 500:
			var p problem
			if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || p.Status != answer.Code || p.Detail == "" {
				t.Fatalf("refused with %s, %v", answer.Body, err)
			}
		default:
			t.Fatalf("status %d: %s", answer.Code, answer.Body)
		}
	})
}
