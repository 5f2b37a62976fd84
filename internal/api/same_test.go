package api_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/api"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// noting is a dispatcher that only notes what it is asked for.
type noting struct{ hash []byte }

func (n *noting) Submit(_ context.Context, s uploads.Submission) (uploads.Upload, bool, error) {
	err := errors.Join(s.Validate())
	n.hash = s.Hash()
	return uploads.Upload{}, false, err
}

// What is left out, is null or is empty says the same, by each way.
func TestTheSameSubmissionInOtherWords(t *testing.T) {
	t.Parallel()
	_, base := setup(t)
	if a := call(t, http.MethodPost, base+"/v1/uploads", first); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var plain noting
	if _, err := api.SubmitMessage(t.Context(), &plain, "default", "id", time.Now(), []byte(first)); err != nil {
		t.Fatal(err)
	}
	bulk := func(kind, body string) {
		t.Helper()
		res := decode[wire.BulkResult](t, call(t, http.MethodPost, base+"/v1/uploads/bulk", body, "Content-Type", kind))
		if res.Known != 1 || len(res.Rejected) > 0 {
			t.Errorf("%s: %+v", body, res)
		}
	}
	for _, said := range []string{
		`"options":null`, `"options":{}`, `"digests":null`, `"digests":[]`, `"name":null`, `"name":""`, `"name":"1.mp4"`,
		`"content_type":null`, `"content_type":""`, `"priority":null`, `"priority":0`, `"not_before":null`,
	} {
		body := strings.TrimSuffix(first, "}") + "," + said + "}"
		if a := call(t, http.MethodPost, base+"/v1/uploads", body); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", said, a.status, a.body)
		}
		bulk("application/x-ndjson", body)
		var n noting
		if _, err := api.SubmitMessage(t.Context(), &n, "default", "id", time.Now(), []byte(body)); err != nil || !bytes.Equal(n.hash, plain.hash) {
			t.Errorf("%s by NATS: %v, another hash: %t", said, err, !bytes.Equal(n.hash, plain.hash))
		}
	}
	bulk("text/csv", "account,bucket,key,label.show,label.other,option.x,digests,name,content_type,priority,not_before,version,etag,idempotency_key\n"+
		"main,inbox,a/1.mp4,7,,,,,,,,,,k1\n")
}
