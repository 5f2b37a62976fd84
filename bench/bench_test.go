package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/crc64nvme"
	"go.uber.org/goleak"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
	"mediaferry/bench/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake moves what its function says, at a cost that it makes up.
type fake struct {
	name  string
	move  func(ctx context.Context, put func(key string, body []byte)) error
	ready error
}

func (f *fake) Name() string                  { return f.name }
func (f *fake) Prepare(context.Context) error { return f.ready }

type fakeMover struct {
	*fake
	sinkURL string
}

func (f *fakeMover) Move(ctx context.Context, _, dstBucket string, _ []string) (movers.Cost, error) {
	var failed error
	err := f.move(ctx, func(key string, body []byte) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.sinkURL+"/"+dstBucket+"/"+key, bytes.NewReader(body))
		if err != nil {
			failed = err
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			failed = err
			return
		}
		failed = errors.Join(failed, resp.Body.Close())
	})
	return movers.Cost{
		Wall:    2 * time.Second,
		CPU:     map[string]time.Duration{movers.RoleWorker: time.Second, movers.RoleDispatcher: time.Second / 2},
		PeakRSS: map[string]int64{movers.RoleWorker: 30e6},
	}, errors.Join(err, failed)
}

// setup makes a dataset of two small objects, a sink, and a bench that has not run.
func setup(t *testing.T, fakes ...*fake) *bench {
	t.Helper()
	server := httptest.NewServer(sink.New())
	t.Cleanup(server.Close)
	set := &dataset{name: "large", count: 2, size: 1000, crc64: map[string]string{}}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, set.bucket()), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, key := range set.keys() {
		sum := crc64nvme.New()
		_, _ = sum.Write(object(i))
		set.crc64[key] = base64.StdEncoding.EncodeToString(sum.Sum(nil))
		if err := os.WriteFile(filepath.Join(folder, set.bucket(), key), object(i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{
		sets: []*dataset{set}, rounds: 2, timeout: time.Minute, folder: folder,
		sink: sink.Client{URL: server.URL}, log: io.Discard,
	}
	for _, f := range fakes {
		b.movers = append(b.movers, &fakeMover{fake: f, sinkURL: server.URL})
	}
	return b
}

func object(i int) []byte { return bytes.Repeat([]byte{"ab"[i]}, 1000) }

func all(_ context.Context, put func(string, []byte)) error {
	put("clip-00000.mp4", object(0))
	put("clip-00001.mp4", object(1))
	return nil
}

// TestMoverThatMovesLess: whatever a mover says of itself, only what the sink has
// makes a result.
func TestMoverThatMovesLess(t *testing.T) {
	t.Parallel()
	type put = func(string, []byte)
	b := setup(
		t,
		&fake{name: "good", move: all},
		&fake{name: "lazy", move: func(_ context.Context, put put) error { put("clip-00000.mp4", object(0)); return nil }},
		&fake{name: "short", move: func(_ context.Context, put put) error {
			put("clip-00000.mp4", object(0)[:999])
			put("clip-00001.mp4", append(object(1), 'b'))
			return nil
		}},
		&fake{name: "corrupt", move: func(_ context.Context, put put) error {
			put("clip-00000.mp4", object(0))
			put("clip-00001.mp4", object(0))
			return nil
		}},
		&fake{name: "stray", move: func(ctx context.Context, put put) error {
			put("other", nil)
			return all(ctx, put)
		}},
		&fake{name: "failing", move: func(ctx context.Context, put put) error {
			return errors.Join(all(ctx, put), errors.New("exit 1"))
		}},
		&fake{name: "absent", ready: fmt.Errorf("absent: %w", movers.ErrAbsent)},
	)
	b.prepare(t.Context())
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.failed() {
		t.Error("failed runs, and the benchmark does not say so")
	}
	want := map[string]string{
		"good":    "",
		"lazy":    "1 objects of 1000 bytes arrived",
		"short":   "clip-00000.mp4 has 999 bytes",
		"corrupt": "clip-00001.mp4 has crc64nvme",
		"stray":   "3 objects of 2000 bytes arrived",
		"failing": "exit 1",
		"absent":  "not installed",
	}
	for _, s := range b.summaries() {
		why := want[s.Mover]
		if (s.Rounds == 2) != (why == "") || !strings.Contains(s.Why, why) {
			t.Errorf("%s: %d rounds, %q; want %q", s.Mover, s.Rounds, s.Why, why)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t, &fake{name: "stuck", move: func(ctx context.Context, _ func(string, []byte)) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	b.timeout = 10 * time.Millisecond
	b.rounds = 1
	b.prepare(t.Context())
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := b.summaries()[0].Why; !strings.Contains(why, "not done after 10ms") {
		t.Errorf("why: %q", why)
	}
}

// TestReport runs ours and a floor that cost the same and reads what is printed.
func TestReport(t *testing.T) {
	t.Parallel()
	b := setup(t, &fake{name: ours, move: all}, &fake{name: "floor", move: all}, &fake{name: "mc", ready: movers.ErrAbsent})
	b.prepare(t.Context())
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	results := t.TempDir()
	if err := report(t.Context(), b, settings{results: results}, &out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"figure large_vs_floor_cpu 1.00 x",
		"figure large_worker_vs_floor_cpu 0.667 x", // the worker's 1 s over the floor's 1.5 s
		"figure worker_rss_mb 30.0 MB",
		"no figure large_vs_mc_cpu: mc over the large objects: not installed",
		"no figure small_vs_mc_cpu: ours over the small objects: not run",
		"no figure dispatcher_rss_mb: no mover reported it",
		"no figure acks_per_second: no mover reported it",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
	files, err := filepath.Glob(filepath.Join(results, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results: %v %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var written struct {
		Runs  []result
		Sheet figures.Sheet
	}
	if err := json.Unmarshal(text, &written); err != nil {
		t.Fatal(err)
	}
	if len(written.Runs) != 4 || len(written.Sheet.Figures) != 3 {
		t.Errorf("written: %+v", written)
	}
}

// TestRatios fixes which way each ratio goes: above 1 is to our credit against
// other movers, and 1 is the best that can be had against the floor.
func TestRatios(t *testing.T) {
	t.Parallel()
	sheet := &figures.Sheet{}
	entry := func(set, mover string, cpu, wall float64) summary {
		return summary{Set: set, Mover: mover, Rounds: 3, CPU: cpu, Wall: wall, ByRole: map[string]float64{movers.RoleWorker: cpu / 2}}
	}
	compare(sheet, []summary{
		entry("large", ours, 4, 10), entry("small", ours, 5, 10),
		entry("large", "floor", 2, 5),
		entry("large", "rclone", 12, 20), entry("small", "rclone", 10, 20),
		entry("large", "rclone-tuned", 8, 20), entry("small", "rclone-tuned", 7.5, 20),
		entry("large", "rclone-single", 3, 20),
		entry("large", "mc", 6, 20), entry("small", "mc", 20, 20),
	})
	want := &figures.Sheet{Figures: []figures.Figure{
		{Name: "large_vs_rclone_cpu", Value: 3, Unit: "x"},
		{Name: "small_vs_rclone_cpu", Value: 2, Unit: "x"},
		{Name: "large_vs_rclone_tuned_cpu", Value: 2, Unit: "x"},
		{Name: "small_vs_rclone_tuned_cpu", Value: 1.5, Unit: "x"},
		{Name: "large_vs_rclone_single_cpu", Value: 0.75, Unit: "x"},
		{Name: "large_vs_mc_cpu", Value: 1.5, Unit: "x"},
		{Name: "small_vs_mc_cpu", Value: 4, Unit: "x"},
		{Name: "large_vs_floor_cpu", Value: 2, Unit: "x"},
		{Name: "large_worker_vs_floor_cpu", Value: 1, Unit: "x"},
		{Name: "large_vs_rclone_wall", Value: 2, Unit: "x"},
	}}
	if diff := cmp.Diff(want, sheet); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseDataset(t *testing.T) {
	t.Parallel()
	for text, bytes := range map[string]int64{
		"4x1GiB": 4 << 30, "2000x1MiB": 2000 << 20, "3x7KiB": 21 << 10, "2x5B": 10, "2x5": 10,
	} {
		d, err := parseDataset("large", text)
		if err != nil || d.bytes() != bytes {
			t.Errorf("%s: %+v %v", text, d, err)
		}
	}
	for _, text := range []string{"", "4", "x1GiB", "0x1GiB", "4x", "4x0MiB", "4x1GB", "4x1.5GiB", "4xMiB", "4x1iB"} {
		if d, err := parseDataset("large", text); err == nil {
			t.Errorf("%q is %+v", text, d)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	everyone := movers.Peers(movers.Env{})
	chosen, err := choose(everyone, "mc,floor")
	if err != nil || len(chosen) != 2 || chosen[0].Name() != "mc" || chosen[1].Name() != "floor" {
		t.Errorf("%v %v", chosen, err)
	}
	if _, err := choose(everyone, "mc,cp"); err == nil {
		t.Error("a mover that does not exist was chosen")
	}
}
