package dispatch_test

import (
	"bytes"
	"testing"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/sealing"
	"mediaferry/internal/uploads"
)

// With a new key that seals and the old one to open, sessions in hand are sealed
// anew, and after that the old one is not needed. What no key opens stays.
func TestSessionsAreSealedAnew(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, false)
	oldKey, newKey := sealing.NewKey(), sealing.NewKey()
	sealer := func(key string, old ...string) *sealing.Sealer {
		s, err := sealing.New(key, old...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	begin := func(s *sealing.Sealer, key string) uploads.ID {
		h.sealer = s
		p := h.start(t, dispatch.Config{})
		id, err := h.submit(t.Context(), p, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.OpenPass(t.Context()); err != nil {
			t.Fatal(err)
		}
		return id
	}
	stranger := h.id // sealed under a key that the dispatcher below is not given
	id := begin(sealer(oldKey), "b-20")
	h.sealer = sealer(newKey, oldKey)
	for range 2 { // again is nothing
		if err := h.start(t, dispatch.Config{}).ResealPass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	alone := sealer(newKey)
	for of, want := range map[uploads.ID]bool{id: true, stranger: false} {
		var session []byte
		if err := h.db.QueryRow(t.Context(), `SELECT session FROM uploads WHERE id = $1`, of).Scan(&session); err != nil {
			t.Fatal(err)
		}
		if got := bytes.HasPrefix(session, alone.Prefix()); got != want {
			t.Errorf("sealed under the new key: %t, want %t", got, want)
		}
	}
	h.sealer = alone
	p := h.start(t, dispatch.Config{})
	if _, err := h.db.Exec(t.Context(), `DELETE FROM uploads WHERE id = $1`, stranger); err != nil {
		t.Fatal(err)
	}
	h.queue.lose()
	h.mustSettle(t, p, id)
}
