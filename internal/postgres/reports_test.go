package postgres_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/uploads"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag

// day is one of 2026.
func day(month time.Month, d int) time.Time { return time.Date(2026, month, d, 0, 0, 0, 0, time.UTC) }

// exec runs statements.
func (b *bundle) exec(t *testing.T, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // nothing is pending
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%.80s: %v", sql, err)
	}
}

// Uploads of the record below, by the last digit.
const (
	resumed = "01a10b81-8500-7000-8000-000000000001" // of October
	instant = "01a10b81-8500-7000-8000-000000000002"
	refused = "01a10b81-8500-7000-8000-000000000003"
	inHand  = "01a19c21-7200-7000-8000-000000000004" // of November
)

// record4 fills the database with four uploads of which every number is known.
func (b *bundle) record4(t *testing.T) {
	t.Helper()
	if err := b.MakePartitions(t.Context(), day(10, 1), 2); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `
INSERT INTO uploads (id, tenant, account, provider, pool, request_hash, source_bucket, source_key, source_etag, size, name, state,
    epoch, part_size, part_count, acked_parts, acked_bytes, not_before, submitted_at, begun_at, first_ack_at, last_ack_at, finished_at, asset, failure) VALUES
('`+resumed+`', 'a', 'acc', 'fake', 'default', '', 'in', 'resumed', 'e', 40, 'resumed', 'completed', 2, 10, 4, 4, 40, NULL,
    '2026-10-05 10:00:00Z', '2026-10-05 10:00:30Z', '2026-10-05 10:00:40Z', '2026-10-05 10:01:30Z', '2026-10-05 10:02:10Z', '{"id": "asset-1"}', NULL),
('`+instant+`', 'a', 'acc', 'fake', 'default', '', 'in', 'instant', 'e', 60, 'instant', 'completed', 0, NULL, NULL, 0, 0, '2026-10-05 10:04:00Z',
    '2026-10-05 10:00:00Z', '2026-10-05 10:05:00Z', NULL, NULL, '2026-10-05 10:05:10Z', '{"id": "asset-2"}', NULL),
('`+refused+`', 'b', 'other', 'fake', 'default', '', 'in', 'refused', 'e', 100, 'refused', 'failed', 0, NULL, NULL, 0, 0, NULL,
    '2026-10-05 11:00:00Z', NULL, NULL, NULL, '2026-10-05 13:00:00Z', NULL, '{"cause": "rejected"}'),
('`+inHand+`', 'a', 'acc', 'fake', 'default', '', 'in', 'in-hand', 'e', 30, 'in-hand', 'uploading', 1, 10, 3, 2, 20, NULL,
    '2026-11-02 12:00:00Z', '2026-11-02 12:00:10Z', '2026-11-02 12:00:20Z', '2026-11-02 12:00:20Z', NULL, NULL, NULL);
INSERT INTO upload_epochs (upload_id, epoch) VALUES ('`+resumed+`', 1), ('`+resumed+`', 2), ('`+inHand+`', 1);
DELETE FROM state_changes;
INSERT INTO state_changes (upload_id, from_state, to_state, at) VALUES
('`+resumed+`', NULL, 'queued', '2026-10-05 10:00:00Z'), ('`+resumed+`', 'queued', 'beginning', '2026-10-05 10:00:20Z'),
('`+resumed+`', 'beginning', 'uploading', '2026-10-05 10:00:30Z'), ('`+resumed+`', 'uploading', 'beginning', '2026-10-05 10:01:00Z'),
('`+resumed+`', 'beginning', 'uploading', '2026-10-05 10:01:10Z'), ('`+resumed+`', 'uploading', 'finishing', '2026-10-05 10:02:00Z'),
('`+resumed+`', 'finishing', 'completed', '2026-10-05 10:02:10Z'),
('`+instant+`', NULL, 'queued', '2026-10-05 10:00:00Z'), ('`+instant+`', 'queued', 'beginning', '2026-10-05 10:04:30Z'),
('`+instant+`', 'beginning', 'completed', '2026-10-05 10:05:10Z'),
('`+refused+`', NULL, 'queued', '2026-10-05 11:00:00Z'), ('`+refused+`', 'queued', 'failed', '2026-10-05 13:00:00Z'),
('`+inHand+`', NULL, 'queued', '2026-11-02 12:00:00Z'), ('`+inHand+`', 'queued', 'beginning', '2026-11-02 12:00:05Z'),
('`+inHand+`', 'beginning', 'uploading', '2026-11-02 12:00:10Z');
INSERT INTO part_acks (upload_id, epoch, part, "offset", length, worker, delivery, found, started_at, acked_at) VALUES
('`+resumed+`', 1, 1, 0, 10, 'w1', 1, false, '2026-10-05 10:00:35Z', '2026-10-05 10:00:40Z'),
('`+resumed+`', 1, 3, 20, 10, 'w1', 1, false, '2026-10-05 10:00:35Z', '2026-10-05 10:00:40Z'),
('`+resumed+`', 2, 1, 0, 10, '', 1, true, '2026-10-05 10:01:10Z', '2026-10-05 10:01:10Z'),
('`+resumed+`', 2, 2, 10, 10, 'w1', 2, false, '2026-10-05 10:01:20Z', '2026-10-05 10:01:30Z'),
('`+resumed+`', 2, 3, 20, 10, 'w2', 1, false, '2026-10-05 10:01:20Z', '2026-10-05 10:01:30Z'),
('`+resumed+`', 2, 4, 30, 10, 'w2', 1, false, '2026-10-05 10:01:20Z', '2026-10-05 10:01:30Z'),
('`+inHand+`', 1, 1, 0, 10, 'w1', 1, false, '2026-11-02 12:00:10Z', '2026-11-02 12:00:20Z'),
('`+inHand+`', 1, 3, 20, 10, 'w1', 1, false, '2026-11-02 12:00:10Z', '2026-11-02 12:00:20Z');
INSERT INTO part_failures (upload_id, account, epoch, part, kind, code, worker, started_at, failed_at, excused) VALUES
('`+resumed+`', 'acc', 2, 3, 'throttled', '429', 'w1', '2026-10-05 10:01:10Z', '2026-10-05 10:01:15Z', false),
('`+resumed+`', 'acc', 2, 4, 'throttled', '429', 'w1', '2026-10-05 10:01:10Z', '2026-10-05 10:01:16Z', true),
('`+refused+`', 'other', 0, 0, 'rejected', 'Bad', '', '2026-10-05 12:59:59Z', '2026-10-05 13:00:00Z', false);
SELECT take_calls('acc', 'finish', 3, 0.1, 5);
SELECT take_calls('acc', 'finish', 4, 0.1, 5);
UPDATE call_rates SET counted_at = '2026-10-05 10:30:00Z'`)
}

// upTo is the upper end of the step of five per cent that seconds fall into.
func upTo(seconds float64) string {
	return number(math.Pow(1.05, math.Ceil(math.Log(seconds)/math.Log(1.05))))
}

func number(v float64) string { return fmt.Sprintf("%.5g", v) }

// answers is what each report says of the record above.
func answers() map[string][]string {
	mean := func(of ...float64) string {
		sum := 0.0
		for _, v := range of {
			sum += v
		}
		return number(sum / float64(len(of)))
	}
	return map[string][]string{
		"throughput": {
			"2026-11-02T12:00:00Z a acc fake 1 2 20 " + number(20.0/3600) + " 10",
			"2026-10-05T10:00:00Z a acc fake 2 5 50 " + number(50.0/3600) + " 8",
		},
		"time-in-state": { // of 20+270+5, 30+50, 10+10+40+5 and 10 seconds
			"a acc fake queued 3 98.333 " + number(295.0/450),
			"a acc fake uploading 2 40 " + number(80.0/450),
			"a acc fake beginning 4 16.25 " + number(65.0/450),
			"a acc fake finishing 1 10 " + number(10.0/450),
			"b other fake queued 1 7200 1",
		},
		"percentiles": {
			"acc fake part 7 " + mean(5, 5, 10, 10, 10, 10, 10) + " " + upTo(10) + " " + upTo(10) + " " + upTo(10),
			"acc fake queue 3 " + mean(20, 30, 5) + " " + upTo(20) + " " + upTo(30) + " " + upTo(30),
			"acc fake state beginning 4 " + mean(10, 10, 40, 5) + " " + upTo(10) + " " + upTo(40) + " " + upTo(40),
			"acc fake state finishing 1 10 " + upTo(10) + " " + upTo(10) + " " + upTo(10),
			"acc fake state queued 3 " + mean(20, 270, 5) + " " + upTo(20) + " " + upTo(270) + " " + upTo(270),
			"acc fake state uploading 2 " + mean(30, 50) + " " + upTo(30) + " " + upTo(50) + " " + upTo(50),
			"acc fake upload 2 " + mean(130, 310) + " " + upTo(130) + " " + upTo(310) + " " + upTo(310),
			"other fake queue 1 7200 " + upTo(7200) + " " + upTo(7200) + " " + upTo(7200),
			"other fake state queued 1 7200 " + upTo(7200) + " " + upTo(7200) + " " + upTo(7200),
		},
		"failures": {
			"acc throttled 429 2 1 2026-10-05T10:01:16Z",
			"other rejected Bad 1 0 2026-10-05T13:00:00Z",
		},
		// Parts 1 and 3 in the first epoch, 2 to 4 in the second: 50 of 40 bytes.
		"sent-twice": {
			"a acc fake 50 10 10 20 0.2",
			"b other fake 0 0 0 0 <nil>",
		},
		"instant-savings": {"a acc fake 2 100 1 60 10 0.7"},
		"rate-budget":     {"2026-10-05T10:00:00Z acc finish 3 360 " + number(3.0/360) + " 1"},
		"queue-wait": {
			"2026-11-02T00:00:00Z a acc fake 1 5 " + upTo(5) + " " + upTo(5) + " " + upTo(5),
			"2026-10-05T00:00:00Z a acc fake 2 25 " + upTo(20) + " " + upTo(30) + " " + upTo(30),
			"2026-10-05T00:00:00Z b other fake 1 7200 " + upTo(7200) + " " + upTo(7200) + " " + upTo(7200),
		},
		"sla": {
			"a 2 2 0 0 1 0.5 1 1",
			"b 1 0 1 0 0 0 0 0",
		},
		"uploads": {
			inHand + " a acc fake in-hand 30 uploading 1 20 2026-11-02T12:00:00Z <nil> <nil> 2 false <nil> <nil>",
			refused + " b other fake refused 100 failed 0 0 2026-10-05T11:00:00Z 2026-10-05T13:00:00Z 7200 <nil> false <nil> rejected",
			instant + " a acc fake instant 60 completed 0 0 2026-10-05T10:00:00Z 2026-10-05T10:05:10Z 310 <nil> true asset-2 <nil>",
			resumed + " a acc fake resumed 40 completed 2 40 2026-10-05T10:00:00Z 2026-10-05T10:02:10Z 130 " + number(40.0/60) + " false asset-1 <nil>",
		},
	}
}

// ask runs every report and returns what they say, a line for each row.
func (b *bundle) ask(t *testing.T, since time.Time) map[string][]string {
	t.Helper()
	all, err := b.Reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, r := range all {
		got, err := b.Report(t.Context(), r.Name, since)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range got.Rows {
			texts := make([]string, len(row))
			for i, v := range row {
				switch v := v.(type) {
				case float64:
					texts[i] = number(v)
				case time.Time:
					texts[i] = v.UTC().Format(time.RFC3339)
				case nil, string, bool, int64:
					texts[i] = fmt.Sprint(v)
				default:
					t.Errorf("%s, column %s: a %T", r.Name, got.Columns[i], v)
				}
			}
			out[r.Name] = append(out[r.Name], strings.Join(texts, " "))
		}
	}
	return out
}

func (b *bundle) fold(t *testing.T) int {
	t.Helper()
	n, err := b.FoldLedger(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Reports say the same of what was folded and of what was not, and of uploads
// that are gone.
func TestReports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.record4(t)
	want := answers()
	compare := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, b.ask(t, day(10, 1))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	if n := b.fold(t); n != 6 {
		t.Errorf("%d parts were folded, want the 6 of uploads that have ended", n)
	}
	// What sent-twice and instant-savings say of found and sent bytes is folded when an upload has ended.
	compare("folded")
	if n := b.fold(t); n != 0 {
		t.Errorf("%d parts were folded twice", n)
	}
	compare("folded again")
	b.exec(t, `DELETE FROM rollup_minutes; DELETE FROM rollup_hours; DELETE FROM rollup_durations WHERE measure = 'part';
		UPDATE upload_epochs SET folded = 0, ended = false, sent_parts = 0, sent_bytes = 0, found_bytes = 0, redelivered_bytes = 0`)
	for _, name := range []string{"throughput", "percentiles"} {
		if diff := cmp.Diff(want[name], b.ask(t, day(10, 1))[name]); diff != "" {
			t.Errorf("%s, not folded (-want +got):\n%s", name, diff)
		}
	}

	var months []uploads.Pruned
	cutoff := day(11, 1)
	prune := func(withFailed, dryRun bool) uploads.Pruned {
		t.Helper()
		months = nil
		if err := b.Prune(t.Context(), cutoff, withFailed, dryRun, func(p uploads.Pruned) { months = append(months, p) }); err != nil {
			t.Fatal(err)
		}
		if len(months) != 1 || months[0].Month != "202610" || months[0].Uploads != 3 {
			t.Fatalf("pruned %+v, want October with 3 uploads", months)
		}
		return months[0]
	}
	if p := prune(false, false); !strings.Contains(p.Kept, "1 uploads have failed") || !strings.Contains(p.Kept, refused) {
		t.Errorf("October is kept since %q, want the one that may be retried", p.Kept)
	}
	if p := prune(true, true); p.Kept != "" {
		t.Errorf("October would be kept since %q", p.Kept)
	}
	compare("nothing pruned")
	if p := prune(true, false); p.Kept != "" {
		t.Errorf("October is kept since %q", p.Kept)
	}
	want["uploads"] = want["uploads"][:1]
	compare("pruned")
	for _, table := range []string{"uploads", "state_changes", "part_failures", "outbox", "upload_epochs", "unfolded_uploads"} {
		column := "upload_id"
		if table == "uploads" {
			column = "id"
		}
		if rows := b.query(t, fmt.Sprintf(`SELECT %s::text FROM %s WHERE %s <> $1`, column, table, column), inHand); len(rows) > 0 {
			t.Errorf("%s has %q still", table, rows)
		}
	}
	if rows := b.query(t, `SELECT relname::text FROM pg_class WHERE relname = 'part_acks_202610'`); len(rows) > 0 {
		t.Error("October's part of the ledger is there still")
	}
}

// A month stays as long as work is due on one of its uploads, or one of them has
// ended after the cutoff.
func TestPruneKeeps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.record4(t)
	b.exec(t, `UPDATE uploads SET finished_at = '2026-11-20Z' WHERE id = '`+instant+`'`)
	for name, c := range map[string]struct {
		cutoff time.Time
		want   map[string]string
	}{
		"in the month":        {day(10, 20), map[string]string{}},
		"ended too lately":    {day(11, 1), map[string]string{"202610": "ended too lately, such as " + instant}},
		"an upload goes on":   {day(12, 1), map[string]string{"202610": "", "202611": "work is due on 1 uploads, such as " + inHand}},
		"nothing of the time": {day(9, 1), map[string]string{}},
	} {
		got := map[string]string{}
		if err := b.Prune(t.Context(), c.cutoff, true, true, func(p uploads.Pruned) { got[p.Month] = p.Kept }); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: months %v, want %v", name, got, c.want)
		}
		for month, why := range c.want {
			if !strings.HasSuffix(got[month], why) || why == "" && got[month] != "" {
				t.Errorf("%s: %s is kept since %q, want %q", name, month, got[month], why)
			}
		}
	}
	// The upload's part of the month is not touched, whoever asks for it.
	if err := b.Prune(t.Context(), day(12, 1), true, false, func(uploads.Pruned) {}); err != nil {
		t.Fatal(err)
	}
	if rows := b.query(t, `SELECT id::text FROM uploads`); !slices.Equal(rows, []string{inHand}) {
		t.Errorf("uploads %q are left, want the one in hand", rows)
	}
	if rows := b.query(t, `SELECT part::text FROM part_acks`); len(rows) != 2 {
		t.Errorf("parts %q are left in the ledger, want two", rows)
	}
}

// While acks are recorded in any order, several fold, and some are cut short,
// reports say what the ledger says, and in the end every part is folded once.
func TestFoldUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const size, count = 10, 3000
	plan := parts.Plan{Size: size * count, PartSize: size}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	ctx, cancel := context.WithCancel(t.Context())
	var folders sync.WaitGroup
	for i := range 3 {
		folders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				cut := ctx
				if i == 0 { // dies again and again
					var stop context.CancelFunc
					cut, stop = context.WithTimeout(ctx, time.Duration(n%7)*time.Millisecond)
					defer stop()
				}
				if _, err := b.FoldLedger(cut, i); err != nil && cut.Err() == nil {
					t.Errorf("fold: %v", err)
				}
			}
		})
	}
	var recorders sync.WaitGroup
	for lane := range 4 {
		recorders.Go(func() {
			for first := lane + 1; first <= count; first += 4 * 25 {
				var numbers []int
				for n := first; n < first+4*25 && n <= count; n += 4 {
					numbers = append(numbers, n)
				}
				if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, numbers...)}); err != nil {
					t.Errorf("record: %v", err)
				}
			}
		})
	}
	const both = `SELECT concat((SELECT coalesce(sum(parts), 0) FROM report.throughput_per_minute), ' of ', (SELECT count(*) FROM part_acks))`
	for range 20 {
		if got := b.query(t, both)[0]; !same(got) {
			t.Errorf("the report has %s parts of the ledger", got)
		}
	}
	recorders.Wait()
	cancel()
	folders.Wait()
	// The server may still be busy with one that was cut short, beside which nobody folds.
	b.exec(t, `SELECT pg_advisory_xact_lock(hashtextextended('roll-ups', 0))`)
	if got := b.upload(t, id); got.State != uploads.Finishing {
		t.Fatalf("upload is %s", got.State)
	}
	b.exec(t, `UPDATE uploads SET state = 'completed', asset = '{}', finished_at = now()`)
	b.fold(t)
	for query, want := range map[string]string{
		both: "3000 of 3000",
		`SELECT concat(sum(parts), ' ', sum(bytes)) FROM rollup_minutes`:                                    "3000 30000",
		`SELECT sum(count)::text FROM rollup_durations WHERE measure = 'part'`:                              "3000",
		`SELECT concat(folded, ' ', ended, ' ', sent_parts, ' ', sent_bytes) FROM upload_epochs`:            "3000 t 3000 30000",
		`SELECT concat(open_epochs, ' ', unfolded_parts) FROM report.roll_ups`:                              "0 0",
		`SELECT concat(count(*), ' ', sum(sent_bytes), ' ', sum(again_bytes)) FROM report.bytes_sent_twice`: "1 30000 0",
		`SELECT string_agg(outcome || ' ' || uploads || ' ' || bytes, ',') FROM report.uploads_per_day`:     "completed 1 30000",
	} {
		if got := b.query(t, query)[0]; got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func same(text string) bool {
	reported, recorded, _ := strings.Cut(text, " of ")
	return reported == recorded
}

// The page for analysts has every report as it is run.
func TestReportsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reporting.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := new(postgres.Store).Reports(t.Context())
	if err != nil || len(all) != 10 {
		t.Fatalf("Reports = %d, %v; want ten", len(all), err)
	}
	for _, r := range all {
		if section := "`" + r.Name + "`\n\n" + r.Question + "\n\n```sql\n" + r.SQL + "\n```\n"; !strings.Contains(string(page), section) {
			t.Errorf("docs/reporting.md has not %s as it is in reports/%s.sql:\n%s", r.Name, r.Name, section)
		}
	}
}

func TestNoSuchReport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.Report(t.Context(), "weather", day(10, 1)); !errors.Is(err, uploads.ErrNoReport) {
		t.Errorf("report: %v, want %v", err, uploads.ErrNoReport)
	}
}

// The schema report is an API: no column goes away or changes its type, and each
// says what it is. New ones are added to the file with -update, and so is the
// version, which a migration counts up.
func TestReportSchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.query(t, `SELECT 'version ' || version FROM report.version`)
	got = append(got, b.query(t, `
		SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		WHERE n.nspname = 'report' ORDER BY 1`)...)
	const golden = "testdata/report_schema.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("schema report: columns may be added, with a new report.version; none may go (-want +got):\n%s", diff)
	}
	for _, name := range b.query(t, `
		SELECT c.relname || coalesce('.' || a.attname, '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0
		WHERE n.nspname = 'report' AND c.relkind = 'v' AND col_description(c.oid, coalesce(a.attnum, 0)) IS NULL
		UNION ALL
		SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'report' AND c.relkind = 'v' AND obj_description(c.oid, 'pg_class') IS NULL`) {
		t.Errorf("report.%s has no comment", name)
	}
}
