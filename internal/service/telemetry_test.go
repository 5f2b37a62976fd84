package service_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
)

// spans is a collector of spans.
type spans struct {
	mu  sync.Mutex
	all []span
}

type span struct {
	*tracepb.Span
	process string
}

// ServeHTTP takes what an exporter sends.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(r.URL.Path, err), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range sent.GetResourceSpans() {
		process := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				process = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, one := range ss.GetSpans() {
				s.all = append(s.all, span{one, process})
			}
		}
	}
}

// scrape reads the metrics at the address.
func scrape(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %d %v\n%s", answer.StatusCode, err, body)
	}
	return string(body)
}

// An upload is one trace, of the spans that both processes make: each has its
// parent, each part's way leads from feed over worker and platform to the ledger.
func TestAnUploadIsOneTrace(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	got := &spans{}
	server := httptest.NewServer(got)
	t.Cleanup(server.Close)
	tracing := config.Tracing{Endpoint: server.URL, Sample: 1}
	b.cfg.Tracing = tracing
	// A part that fails once: its second try belongs to the trace as well.
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth == 2 {
			return false, &providers.Error{Kind: providers.Transient, Call: "PutPart", Code: "503"}
		}
		return true, nil
	})
	stopDispatcher := b.dispatcher(t)
	log := zaptest.NewLogger(t).Named("w1")
	stopWorker := background(t, func(ctx context.Context) error {
		return service.RunWorker(ctx, config.Worker{
			ID: "w1", Pool: "default", Slots: 2, NATS: b.cfg.NATS, Staging: b.cfg.Staging, StopGrace: time.Second, Tracing: tracing,
		}, b.known(), log)
	})
	data := b.put(t, "film.mp4", 20*mib)
	u := b.submit(t, "film.mp4")
	b.mustComplete(t, u.ID, data)
	query := b.query(t)
	eventually(t, "the event is published", func() bool { return query("SELECT count(*)::text FROM outbox") == "0" })
	stopWorker()
	stopDispatcher() // what is left of the spans is sent

	got.mu.Lock()
	defer got.mu.Unlock()
	id := uuid.MustParse(u.ID)
	byID := map[string]span{}
	for _, s := range got.all {
		if string(s.GetTraceId()) != string(id[:]) {
			t.Errorf("span %s is of trace %x, want that of the upload", s.GetName(), s.GetTraceId())
		}
		if _, twice := byID[string(s.GetSpanId())]; twice {
			t.Errorf("two spans have the id of %s", s.GetName())
		}
		byID[string(s.GetSpanId())] = s
	}
	count := map[string]int{}
	for _, s := range got.all {
		above := "none"
		if len(s.GetParentSpanId()) > 0 {
			parent, ok := byID[string(s.GetParentSpanId())]
			if !ok {
				t.Errorf("span %s has a parent that nobody made", s.GetName())
				continue
			}
			above = strings.TrimPrefix(parent.process, "mediaferry-") + " " + parent.GetName()
		}
		count[above+" > "+strings.TrimPrefix(s.process, "mediaferry-")+" "+s.GetName()]++
		if s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
			t.Errorf("span %s ends before it begins", s.GetName())
		}
	}
	for way, least := range map[string]int{
		"none > dispatcher upload":              1,
		"dispatcher upload > dispatcher submit": 1,
		"dispatcher upload > dispatcher begin":  1,
		"dispatcher begin > dispatcher begin":   1, // the call
		"dispatcher upload > dispatcher feed":   2,
		"dispatcher feed > worker deliver":      2,
		"worker deliver > worker open":          2,
		"worker deliver > worker put_part":      21,
		"worker deliver > worker report":        2,
		"worker report > dispatcher record":     2,
		"dispatcher upload > dispatcher finish": 1,
		"dispatcher finish > dispatcher finish": 1,
	} {
		if count[way] < least {
			t.Errorf("%d spans %s, want %d", count[way], way, least)
		}
	}
	if t.Failed() {
		t.Logf("there are %v", count)
	}
}

// What both processes export has no fault of form, no label for each upload or
// worker, and no secret, and says what happened.
func TestMetricsSayWhatHappened(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	addresses := freeAddresses(t, 2)
	b.cfg.Metrics.Listen = addresses[0]
	b.cfg.Accounts[0].Settings = map[string]string{"endpoint": "https://platform.example"}
	b.cfg.Accounts[0].Secrets = map[string]providers.Secret{"secret_key": "hunter2-hunter2"}
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallFinish && nth == 2 {
			return false, &providers.Error{Kind: providers.Rejected, Call: "Finish", Message: "no"}
		}
		return true, nil
	})
	b.dispatcher(t)
	workerAt := addresses[1]
	log := zaptest.NewLogger(t).Named("w1")
	background(t, func(ctx context.Context) error {
		return service.RunWorker(ctx, config.Worker{
			ID: "w-one", Pool: "default", Slots: 3, NATS: b.cfg.NATS, Staging: b.cfg.Staging, StopGrace: time.Second,
			Metrics: config.Metrics{Listen: workerAt},
		}, b.known(), log)
	})
	data := b.put(t, "film.mp4", 3*mib+1)
	ids := []string{b.submit(t, "film.mp4").ID}
	b.mustComplete(t, ids[0], data)
	second, _, err := b.api.Submit(t.Context(), client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "film.mp4"}})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, second.ID)
	b.wait(t, second.ID)

	// What comes last of an upload is counted after the upload has ended.
	said := func(address string, lines ...string) string {
		t.Helper()
		return await(t, "the metrics say it all", func() (string, bool) {
			text := scrape(t, address)
			for _, line := range lines {
				if !strings.Contains(text, line) {
					return "without " + line + ":\n" + ours(text), false
				}
			}
			return text, true
		})
	}
	dispatcher := said(b.cfg.Metrics.Listen,
		`mediaferry_submissions_total{account="acc",provider="fake"} 2`,
		fmt.Sprintf(`mediaferry_acked_bytes_total{account="acc",provider="fake"} %g`, float64(2*len(data))),
		`mediaferry_acked_parts_total{account="acc",provider="fake"} 8`,
		`mediaferry_uploads_ended_total{account="acc",cause="",provider="fake",state="completed"} 1`,
		`mediaferry_uploads_ended_total{account="acc",cause="rejected",provider="fake",state="failed"} 1`,
		`mediaferry_call_seconds_count{call="finish",outcome="ok",provider="fake"} 1`,
		`mediaferry_call_seconds_count{call="finish",outcome="rejected",provider="fake"} 1`,
		`mediaferry_account_window_max_bytes{account="acc",provider="fake"} 6.7108864e+07`,
		`mediaferry_dependency_up{dependency="postgres"} 1`,
		`mediaferry_dependency_up{dependency="nats"} 1`,
		`mediaferry_queue_messages{stream="JOBS"}`,
		`mediaferry_step_seconds_count{outcome="ok",step="finish"} 2`,
		`mediaferry_statement_seconds_count{statement="RecordAcks"}`,
		`mediaferry_ledger_seconds_count`,
		`mediaferry_queue_lost_total 0`,
		`mediaferry_build_info{`,
	)
	worker := said(workerAt,
		`mediaferry_call_seconds_count{call="put_part",outcome="ok",provider="fake"} 8`,
		fmt.Sprintf("mediaferry_worker_sent_bytes_total %g", float64(2*len(data))),
		fmt.Sprintf("mediaferry_worker_read_bytes_total %g", float64(2*len(data))),
		`mediaferry_worker_slots 3`,
		`mediaferry_worker_job_seconds_count{kind="part",verdict="done"}`,
		`mediaferry_worker_staging_seconds_count{outcome="ok"}`,
		`mediaferry_build_info{`,
	)
	for process, text := range map[string]string{"dispatcher": dispatcher, "worker": worker} {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", process, p.Metric, p.Text)
		}
		// A part of it would do for a label: an id, a name, a key.
		for _, never := range append(ids, "film.mp4", "w-one", "hunter2", "platform.example", b.dsn, b.cfg.SealKey.Reveal()) {
			if strings.Contains(text, never) {
				t.Errorf("the %s's metrics show %s", process, never)
			}
		}
	}
	if t.Failed() {
		t.Logf("dispatcher:\n%s\nworker:\n%s", ours(dispatcher), ours(worker))
	}
}

// ours leaves out what is the runtime's.
func ours(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "mediaferry_") && !strings.Contains(line, "_bucket{") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
