package providertest

import (
	"bytes"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fakeLimits() providers.Limits {
	return providers.Limits{
		Limits:     parts.Limits{MinPart: 4, MaxPart: 4, Preferred: 4},
		PartDigest: hashing.CRC64NVME,
	}
}

func begin(t *testing.T, f *Fake, size int64) (providers.Media, providers.Session) {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	media := providers.Media{Upload: id, Epoch: 1, Name: "a.mp4", Size: size, PartSize: 4}
	begun, err := f.Begin(t.Context(), providers.Account{Name: "a"}, media)
	if err != nil {
		t.Fatal(err)
	}
	return media, begun.Session
}

func TestFakeAppliesThenFails(t *testing.T) {
	t.Parallel()
	f := NewFake(fakeLimits())
	media, session := begin(t, f, 6)
	var stored []parts.Stored
	for n, data := range []string{"abcd", "ef"} {
		part := parts.Plan{Size: 6, PartSize: 4}.Part(n + 1)
		receipt, err := f.PutPart(t.Context(), session, part, NewBody(f.Limits(), []byte(data)))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, parts.Stored{Part: part, Receipt: receipt})
	}
	lost := &providers.Error{Kind: providers.UnknownOutcome, Call: "finish"}
	f.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallFinish && nth == 1 {
			return true, lost
		}
		return true, nil
	})
	if _, err := f.Finish(t.Context(), session, stored); !errors.Is(err, lost) {
		t.Fatalf("finish returned %v, want the hook's error", err)
	}
	out, err := f.Probe(t.Context(), providers.Account{Name: "a"}, media, session)
	if err != nil || out.Holding != providers.HoldsAsset {
		t.Fatalf("probe returned %+v, %v; want the asset", out, err)
	}
	content, ok := f.Content(out.Asset.ID)
	if !ok || !bytes.Equal(content, []byte("abcdef")) {
		t.Errorf("content is %q, %t", content, ok)
	}
	seen := f.Seen(media.Upload)
	if seen.Finishes != 1 || len(seen.Assets) != 1 || seen.Bytes != 6 {
		t.Errorf("seen %+v, want one finish, one asset and 6 bytes", seen)
	}
	if _, err := f.Finish(t.Context(), session, stored); err != nil {
		t.Fatal(err)
	}
	if got := len(f.Seen(media.Upload).Assets); got != 2 {
		t.Errorf("a repeated finish left %d assets, want 2: the fake must show the fault", got)
	}
}

func TestFakeRefusesForgedBodies(t *testing.T) {
	t.Parallel()
	f := NewFake(fakeLimits())
	_, session := begin(t, f, 6)
	part := parts.Plan{Size: 6, PartSize: 4}.Part(1)
	other, err := hashing.Sum(hashing.CRC64NVME, []byte("abce"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]*Body{
		"digest": NewBody(f.Limits(), []byte("abcd")).Forge(other),
		"short":  NewBody(f.Limits(), []byte("abc")),
		"long":   NewBody(f.Limits(), []byte("abcde")),
	} {
		if _, err := f.PutPart(t.Context(), session, part, body); providers.KindOf(err) != providers.Mismatch {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
	}
}

func TestFakeLosesSessions(t *testing.T) {
	t.Parallel()
	f := NewFake(fakeLimits())
	media, session := begin(t, f, 4)
	f.LoseSessions(media.Upload)
	_, err := f.PutPart(t.Context(), session, parts.Part{Number: 1, Length: 4}, NewBody(f.Limits(), []byte("abcd")))
	if providers.KindOf(err) != providers.SessionLost {
		t.Errorf("put part returned %v, want session_lost", err)
	}
	if got := f.Seen(media.Upload).Puts[1]; got != 1 {
		t.Errorf("part 1 was put %d times for the upload, want 1", got)
	}
}
