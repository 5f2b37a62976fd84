package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"mediaferry/client"
)

var errCut = errors.New("cut off")

// followed opens the stream and calls each until it fails.
func (b *bundle) follow(t *testing.T, f client.EventFilter, last string, each func(client.StateChange) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	last, err := b.api.Events(ctx, f, last, each)
	if err != nil && !errors.Is(err, errCut) {
		t.Fatalf("follow: %v", err)
	}
	return last
}

// Whoever follows sees every move of every upload once and in order, however
// often the connection is cut, and whichever dispatcher it opens it at again.
func TestEventsAreSeenOnceOverReconnects(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.secondAccount()
	for i := range 3 {
		b.put(t, fmt.Sprintf("film-%d.mp4", i), 2*mib)
	}
	b.dispatcher(t)
	first := b.api
	b.dispatcher(t)
	clients := []*client.Client{first, b.api}
	begun := make(chan string, 1)
	b.put(t, "before.mp4", mib)
	begin := b.submit(t, "before.mp4").ID
	go func() {
		last, err := first.Events(t.Context(), client.EventFilter{}, "", func(c client.StateChange) error {
			if c.Upload == begin {
				return nil
			}
			return errCut
		})
		if !errors.Is(err, errCut) {
			t.Errorf("the first stream: %v", err)
		}
		begun <- last
	}()
	// Something happens until the stream has seen of it.
	var last string
	for done := false; !done; {
		b.submit(t, "before.mp4")
		select {
		case last = <-begun:
			done = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if last == "" {
		last = "0"
	}
	var ids []string
	for i := range 3 {
		ids = append(ids, b.submit(t, fmt.Sprintf("film-%d.mp4", i)).ID)
	}
	b.worker(t, "w1")
	got, open := map[string][]string{}, len(ids)
	for cut := 0; open > 0; cut++ {
		b.api = clients[cut%2]
		seen := 0
		last = b.follow(t, client.EventFilter{Account: "acc"}, last, func(c client.StateChange) error {
			if seen == 2 || open == 0 {
				return errCut // this one is not taken, and comes again
			}
			if seen++; slices.Contains(ids, c.Upload) {
				got[c.Upload] = append(got[c.Upload], c.From+">"+c.State)
				if c.State == "completed" {
					open--
					if c.Asset == nil || c.Name == "" || c.Size != 2*mib {
						t.Errorf("completed without all of it: %+v", c)
					}
				}
			}
			if open == 0 {
				return errCut
			}
			return nil
		})
	}
	query := b.query(t)
	for _, id := range ids {
		want := query("SELECT string_agg(coalesce(from_state::text, '') || '>' || to_state, ' ' ORDER BY id) FROM state_changes WHERE upload_id = '" + id + "'")
		if diff := cmp.Diff(want, strings.Join(got[id], " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
	// By one upload, and by where it came to.
	var of []string
	b.follow(t, client.EventFilter{Upload: ids[1], States: []string{"queued", "completed"}}, "0", func(c client.StateChange) error {
		if of = append(of, c.State); c.State == "completed" {
			return errCut
		}
		return nil
	})
	if !slices.Equal(of, []string{"queued", "completed"}) {
		t.Errorf("of one upload: %v", of)
	}
}

// A move whose transaction commits after that of a later number is not missed.
func TestEventsOfSlowTransactions(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", mib)
	b.dispatcher(t)
	if _, err := b.api.PauseAccount(t.Context(), "acc", client.Note{}); err != nil {
		t.Fatal(err)
	}
	id := b.submit(t, "film.mp4").ID
	number := b.query(t)("SELECT max(id)::text FROM state_changes")
	insert := func(reason string) pgx.Tx {
		conn, err := pgx.Connect(t.Context(), b.dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "INSERT INTO state_changes (upload_id, from_state, to_state, reason) VALUES ($1, 'queued', 'queued', $2)", id, reason); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	commit := func(tx pgx.Tx) {
		if err := tx.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	early := insert("early") // with the stream's beginning below it
	late := insert("late")
	reasons := make(chan string)
	go func() {
		defer close(reasons)
		b.follow(t, client.EventFilter{}, number, func(c client.StateChange) error {
			if reasons <- c.Reason; c.Reason == "end" {
				return errCut
			}
			return nil
		})
	}()
	commit(late)
	select {
	case r := <-reasons:
		t.Errorf("%s came while a lower number was on its way", r)
	case <-time.After(time.Second): // four looks
	}
	commit(early)
	commit(insert("end"))
	var got []string
	for r := range reasons {
		got = append(got, r)
	}
	if !slices.Equal(got, []string{"early", "late", "end"}) {
		t.Errorf("came %v", got)
	}
}

// A stream does not hold up a dispatcher that stops, and what is wrong with a
// request is told before it begins.
func TestEventsEndWithTheDispatcher(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", mib)
	stop := b.dispatcher(t)
	id := b.submit(t, "film.mp4").ID
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := b.api.Events(t.Context(), client.EventFilter{Upload: id}, "0", func(c client.StateChange) error {
			if c.State == "queued" {
				close(began)
			}
			return nil
		})
		ended <- err
	}()
	<-began
	for name, tc := range map[string]struct {
		filter client.EventFilter
		last   string
		want   string
	}{
		"id":    {client.EventFilter{}, "x1", "header.Last-Event-ID"},
		"state": {client.EventFilter{States: []string{"done"}}, "", "query.type[0]"},
		"batch": {client.EventFilter{Batch: "b"}, "", "query.batch"},
	} {
		_, err := b.api.Events(t.Context(), tc.filter, tc.last, nil)
		if diff := cmp.Diff([]string{tc.want}, fields(problemOf(t, err))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	begun := time.Now()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if took := time.Since(begun); took >= b.cfg.StopGrace {
		t.Errorf("the dispatcher took %s to stop", took)
	}
}
