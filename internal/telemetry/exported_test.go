package telemetry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/transfer"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const top = "../.."

// exporting returns what both processes export after one of everything has
// happened, by name.
func exporting(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	ctx := t.Context()
	id := uuid.Must(uuid.NewV7())

	d := NewDispatcher(map[string]string{"main": "fake"}, nil)
	platform := d.Providers(map[string]providers.Provider{"fake": providertest.NewFake(providers.Limits{})})["fake"]
	_, _ = platform.Begin(ctx, providers.Account{Name: "main"}, providers.Media{Upload: id, Epoch: 1, Name: "a", Size: 1, PartSize: 1})
	_, over := d.Step(ctx, uploads.Step{ID: id, Account: "main", State: uploads.Finishing})
	over(errors.New("the record is away"))
	d.Recorded([]parts.Report{
		{Upload: id, Account: "main", Failure: &parts.Failure{Kind: string(providers.Throttled)}},
		{Upload: id, Account: "nobody-knows-it", Failure: &parts.Failure{Kind: "of-a-stranger"}},
	}, []parts.Landed{{Account: "main", Parts: 2, Bytes: 7}}, time.Now())
	d.FedAgain("main", 1)
	d.QueueLost()
	d.Statement("RecordAcks", time.Millisecond, io.ErrUnexpectedEOF)
	q := d.Queue(queue{})
	if err := q.Publish(ctx, []parts.Publication{{Job: parts.Job{Upload: id, Account: "main", Run: parts.Run{First: 1, Count: 1}}}}); err != nil {
		t.Fatal(err)
	}
	event := `{"upload":"` + id.String() + `","account":"main","state":"failed","at":"2026-11-01T12:00:00Z","failure":{"cause":"rejected"}}`
	if err := q.PublishEvents(ctx, []uploads.Event{{Number: 1, Tenant: "default", Type: "failed", Payload: []byte(event)}}); err != nil {
		t.Fatal(err)
	}
	d.Ask(Sources{
		Accounts: func(context.Context) ([]uploads.AccountStatus, error) {
			return []uploads.AccountStatus{{
				Name: "main", Provider: "fake", Held: []uploads.HeldCall{{Call: "begin"}},
				Rates: []uploads.CallRate{{Call: "finish", Count: 100, Per: time.Minute, Spent: 50}},
			}}, nil
		},
		Standing: func(context.Context) (uploads.Standing, error) {
			return uploads.Standing{Open: []uploads.OpenCount{{Account: "main", Provider: "fake", State: uploads.Queued, Uploads: 3}}}, nil
		},
		Workers: func(context.Context) []uploads.WorkerStatus {
			return []uploads.WorkerStatus{{ID: "w-one", Pool: "default", Slots: 4, Busy: 1}}
		},
		Streams:     func(context.Context) ([]Stream, error) { return []Stream{{Name: "JOBS", Messages: 1, Bytes: 2}}, nil },
		Connections: func() (int, int, int) { return 1, 2, 3 },
	})

	w := NewWorker(nil)
	w.Ask(func() transfer.Stats { return transfer.Stats{Slots: 4} })
	w.Providers(map[string]providers.Provider{"fake": providertest.NewFake(providers.Limits{})})
	w.Handle(func(context.Context, parts.Job, int, func()) parts.Settlement { return parts.Settlement{} })(ctx, parts.Job{Upload: id}, 2, func() {})
	_, _ = w.Source(source{}).Open(ctx, uploads.Object{}, 0, 1)

	all := map[string]*dto.MetricFamily{}
	for _, reg := range []*prometheus.Registry{d.Registry, w.Registry} {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			all[f.GetName()] = f
		}
	}
	return all
}

type queue struct{ dispatch.Queue }

func (queue) Publish(context.Context, []parts.Publication) error   { return nil }
func (queue) PublishEvents(context.Context, []uploads.Event) error { return nil }

type source struct{}

func (source) Open(context.Context, uploads.Object, int64, int64) (io.ReadCloser, error) {
	return nil, errors.New("no answer")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var ourName = regexp.MustCompile(`mediaferry_[a-z_]+[a-z]`)

// Labels have few values, all of them known: an account or a kind of failure
// that a message makes up is "other".
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	known := []string{
		"account", "provider", "state", "cause", "call", "outcome", "step", "kind", "verdict", "statement", "stream", "pool", "dependency",
		"process", "version", "revision", "go_version",
	}
	for name, family := range exporting(t) {
		if !strings.HasPrefix(name, "mediaferry_") {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(known, l.GetName()) {
					t.Errorf("%s has the label %s", name, l.GetName())
				}
				if strings.Contains(l.GetValue(), "nobody-knows-it") || strings.Contains(l.GetValue(), "of-a-stranger") || strings.Contains(l.GetValue(), "w-one") {
					t.Errorf("%s has %s=%q", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// Every metric has its line in the documentation, and the other way round.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	var exported, documented []string
	for name := range exporting(t) {
		if strings.HasPrefix(name, "mediaferry_") {
			exported = append(exported, name)
		}
	}
	for line := range strings.SplitSeq(read(t, "docs/observability.md"), "\n") {
		if name, ok := strings.CutPrefix(line, "| `mediaferry_"); ok {
			name, _, _ = strings.Cut(name, "`")
			documented = append(documented, "mediaferry_"+name)
		}
	}
	slices.Sort(exported)
	slices.Sort(documented)
	if diff := cmp.Diff(documented, exported); diff != "" {
		t.Errorf("docs/observability.md (-documented +exported):\n%s", diff)
	}
}

// Alerts and dashboards ask for what is there.
func TestAlertsAndDashboardsNameWhatIsExported(t *testing.T) {
	t.Parallel()
	exported := exporting(t)
	for _, path := range []string{"deploy/prometheus/alerts.yml", "deploy/grafana/mediaferry.json"} {
		named := 0
		for _, name := range ourName.FindAllString(read(t, path), -1) {
			named++
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if whole, ok := strings.CutSuffix(name, suffix); ok && exported[whole].GetType() == dto.MetricType_HISTOGRAM && exported[whole] != nil {
					base = whole
				}
			}
			if exported[base] == nil {
				t.Errorf("%s: nobody exports %s", path, name)
			}
		}
		if named == 0 {
			t.Errorf("%s names no metric", path)
		}
	}
}

// What alerts ask the increase of is there, at nought, before anything happens: a
// counter that appears with its first event has not increased, and nobody is called.
func TestWhatAlertsCountIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	fakes := map[string]providers.Provider{"fake": providertest.NewFake(providers.Limits{})}
	d, w := NewDispatcher(map[string]string{"main": "fake"}, nil), NewWorker(nil)
	d.Providers(fakes)
	w.Providers(fakes)
	there := map[string][]map[string]string{} // labels of each series
	for _, reg := range []*prometheus.Registry{d.Registry, w.Registry} {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				there[f.GetName()] = append(there[f.GetName()], labels)
			}
		}
	}
	asked := regexp.MustCompile(`increase\((mediaferry_\w+?)(?:_count)?(?:\{(.*?)\})?\[`).FindAllStringSubmatch(read(t, "deploy/prometheus/alerts.yml"), -1)
	if len(asked) < 5 {
		t.Fatalf("found only %q", asked)
	}
	equal := regexp.MustCompile(`(\w+)="(.*?)"`)
	for _, a := range asked {
		name, wanted := a[1], equal.FindAllStringSubmatch(a[2], -1)
		if name == "mediaferry_jobs_published_total" {
			continue // what another count is compared with
		}
		if !slices.ContainsFunc(there[name], func(labels map[string]string) bool {
			return !slices.ContainsFunc(wanted, func(m []string) bool { return labels[m[1]] != m[2] })
		}) {
			t.Errorf("%s is not there before it happens", a[0])
		}
	}
}

// Each alert has its page and each page its alert; a page says the three things.
func TestEachAlertHasItsPage(t *testing.T) {
	t.Parallel()
	alerts := map[string]bool{}
	rules := read(t, "deploy/prometheus/alerts.yml")
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		alerts[m[1]] = true
		if !strings.Contains(rules, "runbook: docs/runbooks/"+m[1]+".md\n") {
			t.Errorf("%s does not link its page", m[1])
		}
	}
	pages, err := filepath.Glob(filepath.Join(top, "docs/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		found[name] = true
		text := read(t, "docs/runbooks/"+name+".md")
		for _, part := range []string{"# " + name + "\n", "\n## What it means\n", "\n## How to see it\n", "\n## What to do\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", page, part)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("alerts and pages (-alerts +pages):\n%s", diff)
	}
}

// Keys of log lines are an interface too: each is in the documentation.
func TestLogKeysAreDocumented(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "docs/observability.md"), "\n## Log lines\n")
	key := regexp.MustCompile(`zap\.[A-Z]\w*\("([^"]+)"`)
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "internal/upstreams") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range key.FindAllSubmatch(text, -1) {
				if !strings.Contains(table, "`"+string(m[1])+"`") {
					t.Errorf("%s: key %s is not in docs/observability.md", path, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
