package jobs

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Two versions run side by side during a deploy: what a message of the later one
// has beside is passed over by the earlier one.
func TestMessagesOfALaterVersion(t *testing.T) {
	t.Parallel()
	later := func(v any) []byte {
		t.Helper()
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte(`{"later":{"and":["more"]},`), bytes.TrimPrefix(data, []byte("{"))...)
	}
	job := partJob(uploads.ID{15: 1}, 1)
	subject, err := jobSubject(job)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := decodeJob(&nats.Msg{
		Subject: subject, Data: later(job), Reply: "$JS.ACK.JOBS.main.1.1.1.1700000000000000000.0", Sub: &nats.Subscription{},
	})
	if diff := cmp.Diff(job, got); err != nil || diff != "" {
		t.Errorf("the job is read with %v (-want +got):\n%s", err, diff)
	}

	said := parts.Report{
		Upload: uploads.ID{15: 1}, Account: "acme", Epoch: 1, Worker: "w",
		Failure: &parts.Failure{Part: 1, Kind: "a kind of later"},
	}
	heard, err := decodeReport(ackSubject("acme", said.Upload), later(said))
	if diff := cmp.Diff(said, heard); err != nil || diff != "" {
		t.Errorf("the report is read with %v (-want +got):\n%s", err, diff)
	}

	answer := sealedAnswer{Assignment: parts.Assignment{Provider: "s3", Session: []byte("s"), Plan: parts.Plan{Size: 3, PartSize: 1}}}
	answers, err := readAnswers(append(append([]byte("["), later(answer)...), ']'), 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(answer.Assignment, answers[0].Assignment); diff != "" || answers[0].Err != nil {
		t.Errorf("the answer is read with %v (-want +got):\n%s", answers[0].Err, diff)
	}
}
