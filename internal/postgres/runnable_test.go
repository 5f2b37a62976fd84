package postgres_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What may not move counts nothing, and an account no more than its window.
func TestRunnableBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 { // it may be repeated
		if err := b.SetWindowLimits(t.Context(), map[string]int64{"open": 300, "cut": 300, "held": 300, "resting": 300}); err != nil {
			t.Fatal(err)
		}
	}
	b.exec(t, `
UPDATE account_windows SET window_bytes = 100 WHERE account = 'cut';
INSERT INTO call_holds (account, call, held_until) VALUES
    ('held', 'put_part', now() + interval '1 hour'), ('open', 'finish', now() + interval '1 hour'), ('cut', 'put_part', now() - interval '1 second');
INSERT INTO pauses (scope, name) VALUES ('account', 'resting'), ('tenant', 'away');
INSERT INTO uploads (id, tenant, account, provider, pool, request_hash, source_bucket, source_key, source_etag, size, name, state,
    paused, not_before, probe_since, part_size, part_count, acked_bytes, asset)
SELECT gen_random_uuid(), tenant, account, 'fake', pool, '', 'in', 'k', 'e', size, 'n', state::upload_state, paused,
    now() + not_before, CASE WHEN doubt THEN now() END, 10, 1, acked, CASE WHEN state = 'completed' THEN '{}'::jsonb END
FROM (VALUES
    ('t', 'open', 'near', 100, 'queued', false, NULL, false, 0),
    ('t', 'open', 'near', 100, 'queued', false, interval '-1 hour', false, 0),
    ('t', 'open', 'near', 50, 'uploading', false, NULL, false, 20),
    ('t', 'open', 'near', 7, 'beginning', false, NULL, false, 0),
    ('t', 'open', 'far', 1 << 30, 'digesting', false, NULL, false, 0),
    -- None of these can move.
    ('t', 'open', 'near', 1000, 'queued', true, NULL, false, 0),
    ('t', 'open', 'near', 1000, 'queued', false, interval '1 hour', false, 0),
    ('t', 'open', 'near', 1000, 'uploading', false, NULL, true, 0),
    ('t', 'open', 'near', 1000, 'uploading', true, NULL, false, 0),
    ('t', 'open', 'near', 1000, 'finishing', false, NULL, false, 1000),
    ('t', 'open', 'near', 1000, 'completed', false, NULL, false, 1000),
    ('away', 'open', 'near', 1000, 'queued', false, NULL, false, 0),
    ('t', 'held', 'near', 1000, 'uploading', false, NULL, false, 0),
    ('t', 'resting', 'near', 1000, 'uploading', false, NULL, false, 0),
    -- More than the window, and an account of which nothing is known.
    ('t', 'cut', 'near', 1000, 'queued', false, NULL, false, 0),
    ('t', 'new', 'near', 1000, 'queued', false, NULL, false, 0)
) AS v(tenant, account, pool, size, state, paused, not_before, doubt, acked);`)
	got := b.query(t, `SELECT pool || ' ' || account || ' ' || uploads || ' ' || backlog_bytes || ' ' || runnable_bytes
		FROM report.runnable_bytes ORDER BY 1`)
	want := []string{
		"far open 1 16777216 300",
		"near cut 1 1000 100",
		"near new 1 1000 1000",
		"near open 4 237 237",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runnable (-want +got):\n%s", diff)
	}

	// What the chart has KEDA ask.
	text, err := os.ReadFile("../../deploy/helm/mediaferry/templates/autoscaling.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ask := regexp.MustCompile(`SELECT .*\n`).FindString(string(text))
	for pool, want := range map[string]string{"near": "1337", "nobodys": "0"} {
		asked := strings.Replace(ask, "{{ $pool.pool }}", pool, 1)
		if got := b.query(t, "SELECT asked::text FROM ("+asked+") AS q(asked)"); !slices.Equal(got, []string{want}) {
			t.Errorf("%s answers %v, want %s", asked, got, want)
		}
	}
}
