package service_test

import (
	"errors"
	"testing"
	"time"

	"mediaferry/client"
)

// await asks until the answer is as wanted, and returns it.
func await[T any](t *testing.T, what string, ask func() (answer T, wanted bool)) T {
	t.Helper()
	deadline := time.After(testPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, wanted := ask()
		if wanted {
			return answer
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s, but %+v", what, testPatience, answer)
		case <-tick.C:
		}
	}
}

// eventually asks until what is wanted is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	await(t, what, func() (bool, bool) { now := so(); return now, now })
}

// awaitShown asks until the record has the upload as it is wanted. The record may
// be away, or back in time, meanwhile.
func (b *bundle) awaitShown(t *testing.T, id, what string, wanted func(client.Upload) bool) client.Upload {
	t.Helper()
	return await(t, what, func() (client.Upload, bool) {
		u, err := b.api.Show(t.Context(), id)
		return u, err == nil && wanted(u)
	})
}

// awaitError asks until the API answers with the status.
func (b *bundle) awaitError(t *testing.T, id string, status int) {
	t.Helper()
	_ = await(t, "an answer of another status", func() (error, bool) {
		_, err := b.api.Show(t.Context(), id)
		e, ok := errors.AsType[*client.Error](err)
		return err, ok && e.Status == status
	})
}
