package jobs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"mediaferry/internal/parts"
)

// Whatever is asked on the subject of sessions, or answered there: what cannot be
// read is refused, and no session is answered in clear.
func FuzzSessions(f *testing.F) {
	const secret = "a session in clear"
	theirs, err := nkeys.CreateCurveKeys()
	if err != nil {
		f.Fatal(err)
	}
	public, err := theirs.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(sealedRequest{Asks: []AssignmentRequest{{Account: "acme"}}, Key: public})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{
		good, []byte(`{"asks":[{}],"key":"` + public + `","later":1}`), []byte(`{"asks":null,"key":"X"}`), []byte(`[{"stale":true}]`),
		[]byte(`[{"assignment":{"plan":{"size":-1},"at":"x"}}]`), []byte("{"), nil,
	} {
		f.Add(seed)
	}
	ours, err := nkeys.CreateCurveKeys()
	if err != nil {
		f.Fatal(err)
	}
	ourPublic, err := ours.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		asked := 0
		reply := sealedReply(t.Context(), &nats.Msg{Data: data}, func(_ context.Context, asks []AssignmentRequest) []Answer {
			asked = len(asks)
			answers := make([]Answer, len(asks))
			for i := range answers {
				answers[i].Assignment = parts.Assignment{Session: []byte(secret)}
			}
			return answers
		}, ours, ourPublic)
		if bytes.Contains(reply.Data, []byte(base64.StdEncoding.EncodeToString([]byte(secret)))) {
			t.Fatalf("answered in clear: %q", reply.Data)
		}
		if asked > maxAsks {
			t.Fatalf("%d requests were answered at once", asked)
		}
		if plain, err := theirs.Open(reply.Data, ourPublic); err == nil && reply.Header.Get(headerKey) != "" {
			if answers, err := readAnswers(plain, asked); err != nil || len(answers) != asked {
				t.Fatalf("%d answers to %d requests: %v", len(answers), asked, err)
			}
		}
		if answers, err := readAnswers(data, 1); err == nil && len(answers) != 1 {
			t.Fatalf("%q is read as %d answers", data, len(answers))
		}
	})
}
