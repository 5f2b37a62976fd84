package parts_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Two versions run side by side during a deploy, so the messages are pinned as
// they are written today.
func TestMessagesOnTheWire(t *testing.T) {
	t.Parallel()
	id := uploads.ID{0x01, 0x90}
	at := time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC)
	object := uploads.Object{Bucket: "b", Key: "k", ETag: "e", Size: 9}
	for name, tt := range map[string]struct {
		message any
		want    string
	}{
		"part job": {
			parts.Job{Upload: id, Account: "a", Pool: "p", Epoch: 2, Run: parts.Run{First: 3, Count: 4}},
			`{"upload":"01900000-0000-0000-0000-000000000000","account":"a","pool":"p","epoch":2,"run":{"First":3,"Count":4}}`,
		},
		"digest job": {
			parts.Job{Upload: id, Account: "a", Pool: "p"},
			`{"upload":"01900000-0000-0000-0000-000000000000","account":"a","pool":"p"}`,
		},
		"acks": {
			parts.Report{Upload: id, Account: "a", Epoch: 2, Worker: "w", Delivery: 1, Acks: []parts.Ack{{
				Part: 3, Offset: 4, Length: 5, Receipt: parts.Receipt{Tag: "t"},
				Digest: hashing.Digest{Kind: hashing.CRC32C, Sum: "00c0ffee"}, Started: at, Finished: at,
			}, {Part: 4, Offset: 9, Length: 5, Started: at, Finished: at}}},
			`{"upload":"01900000-0000-0000-0000-000000000000","account":"a","epoch":2,"worker":"w","delivery":1,"acks":[` +
				`{"part":3,"offset":4,"length":5,"receipt":{"tag":"t"},"digest":"crc32c:00c0ffee",` +
				`"started":"2026-11-20T01:02:03Z","finished":"2026-11-20T01:02:03Z"},` +
				`{"part":4,"offset":9,"length":5,"started":"2026-11-20T01:02:03Z","finished":"2026-11-20T01:02:03Z"}]}`,
		},
		"failure": {
			parts.Report{Upload: id, Account: "a", Epoch: 2, Worker: "w", Delivery: 3, Failure: &parts.Failure{
				Part: 3, Kind: parts.SourceChanged, Message: "m", RetryAfter: time.Second, Started: at, Failed: at,
			}},
			`{"upload":"01900000-0000-0000-0000-000000000000","account":"a","epoch":2,"worker":"w","delivery":3,"failure":` +
				`{"part":3,"kind":"source_changed","message":"m","retry_after":1000000000,` +
				`"started":"2026-11-20T01:02:03Z","failed":"2026-11-20T01:02:03Z"}}`,
		},
		"checkpoint": {
			parts.Report{Upload: id, Account: "a", Worker: "w", Delivery: 1, Digested: &parts.Digested{
				Checkpoint: &hashing.Checkpoint{Offset: 7, States: map[hashing.Kind][]byte{hashing.MD5: []byte("s")}}, Object: object,
			}},
			`{"upload":"01900000-0000-0000-0000-000000000000","account":"a","worker":"w","delivery":1,"digested":` +
				`{"checkpoint":{"offset":7,"states":{"md5":"cw=="}},"object":{"bucket":"b","key":"k","etag":"e","size":9}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if !(parts.Job{}).IsDigest() || (parts.Job{Run: parts.Run{First: 1, Count: 1}}).IsDigest() {
		t.Error("a digest job is one without a run")
	}
}
