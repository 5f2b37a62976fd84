package postgres_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/uploads"
)

// runs fails the test if the database does not take the query.
func (b *bundle) runs(t *testing.T, what, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // read only
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for rows.Next() {
	}
	if rows.Err() != nil {
		t.Errorf("%s: %v\n%s", what, rows.Err(), sql)
	}
}

// The queries of the dashboard and of the runbooks are taken by the database.
func TestQueriesOfDashboardAndRunbooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text, err := os.ReadFile("../../deploy/grafana/reports.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RawSql string } //nolint:revive // Grafana's spelling
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	filter := regexp.MustCompile(`\$__timeFilter\((\w+)\)`)
	queries := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries++
			sql := filter.ReplaceAllString(target.RawSql, "$1 BETWEEN now() - interval '1 hour' AND now()")
			b.runs(t, p.Title, strings.ReplaceAll(sql, "$account", "'main'"))
		}
	}
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(.*?)```")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllSubmatch(text, -1) {
			queries++
			b.runs(t, page, string(m[1]))
		}
	}
	if queries < 10 {
		t.Errorf("only %d queries were found", queries)
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := item(t, "one.mp4", 10), item(t, "two.mp4", 20)
	if _, err := b.Insert(t.Context(), &uploads.Intake{
		Tenant: "default", Account: "main", Provider: "fake", Pool: "default", Bucket: "inbox", Items: []uploads.IntakeItem{first, second},
	}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Open) != 1 || got.Open[0].Oldest < 0 || got.Open[0].Oldest > time.Minute {
		t.Fatalf("open: %+v", got.Open)
	}
	got.Open[0].Oldest = 0
	want := uploads.Standing{Open: []uploads.OpenCount{{Account: "main", Provider: "fake", State: uploads.Queued, Uploads: 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("standing (-want +got):\n%s", diff)
	}
	// An upload that has ended is not open, and its event waits.
	if _, err := b.Apply(t.Context(), uploads.ActionCancel, "default", []uploads.ID{first.ID}, uploads.Note{}); err != nil {
		t.Fatal(err)
	}
	if got, err = b.Standing(t.Context()); err != nil || got.Open[0].Uploads != 1 || got.Events != 1 {
		t.Errorf("after a cancellation: %+v %v", got, err)
	}
}

// Whoever watches is told each statement by its name, and nothing of its arguments.
func TestWatchedStatements(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	var names []string
	b.Watch(func(name string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if took <= 0 || err != nil {
			t.Errorf("%s took %s: %v", name, took, err)
		}
		names = append(names, name)
	})
	if _, err := b.Standing(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.TakeEvents(t.Context(), 1, func([]uploads.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"OpenUploads", "Backlog", "begin", "NextEvents", "commit"}; !slices.Equal(names, want) {
		t.Errorf("statements %q, want %q", names, want)
	}
}
