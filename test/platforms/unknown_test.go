package platforms_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// allEnd is how long the uploads may take. Those that have not ended by then
// are reported as not completed.
const allEnd = 10 * time.Minute

// sent is an upload of the test.
type sent struct {
	key     string
	size    int
	account config.Account
	digest  [sha256.Size]byte
	id      string
}

// TestUnknownOutcomes has every fifth call to the platforms, whichever it is,
// take effect and then fail, by a reset or a 5xx. Afterwards each server is
// asked what it has: one finished asset for each upload, with its bytes.
func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	starts := []struct {
		start      func(*testing.T, int) platform
		perAccount int // uploads: some more than the published rates let through at once
	}{
		{startTencentUGC, 100},
		{startTencentVOD, 20},
		{startTencentCOS, 20},
		{startCDNetworks, 3},
		{startTencentSMH, 100},
	}
	total := intFlag(t, flagUploads)
	each := (total + len(starts) - 1) / len(starts)
	var platforms []platform
	var accounts []config.Account
	for i, s := range starts {
		p := s.start(t, (each+s.perAccount-1)/s.perAccount)
		seed := uint64(2 * i)
		p.faults(
			upstreams.Fault{Chance: 0.1, Seed: seed, Apply: true, Reset: true},
			upstreams.Fault{Chance: 0.1 / 0.9, Seed: seed + 1, Apply: true, Status: 502}, // of those that the first left
		)
		platforms = append(platforms, p)
		accounts = append(accounts, p.accounts...)
	}
	all := make([]sent, total)
	for i := range all {
		p := platforms[i%len(platforms)]
		nth := i / len(platforms)
		all[i] = sent{
			key: fmt.Sprintf("film-%d.mp4", i), size: sizeOf(p.name, nth), account: p.accounts[nth%len(p.accounts)],
		}
	}

	from := startSource(t)
	o := startOurs(t, from, accounts)
	start := time.Now()
	submitAll(t, from, o, all)
	t.Logf("submitted after %s", time.Since(start).Round(time.Second))
	o.allEnded(t)
	t.Logf("ended after %s", time.Since(start).Round(time.Second))
	o.stop() // what is cut short by this would be too late

	var calls, hit int
	for _, p := range platforms {
		p.clear()
		all := p.calls()
		failures := 0
		for _, c := range all {
			if strings.HasPrefix(c.Outcome, "fault") {
				failures++
			}
		}
		t.Logf("%s: %d calls, %d took effect and failed", p.name, len(all), failures)
		calls, hit = calls+len(all), hit+failures
	}
	needsHuman, otherwise := o.notCompleted(t)
	double := checkAssets(t, o, platforms, all)
	figure("figure unknown_outcome_uploads %d count", total)
	figure("figure unknown_outcome_calls_failed_pct %.2f %%", 100*float64(hit)/float64(max(calls, 1)))
	figure("figure unknown_outcome_double_assets %d count", double)
	figure("figure unknown_outcome_needs_human %d count", needsHuman)
	figure("figure unknown_outcome_not_completed %d count", otherwise)
}

// sizeOf returns the size of a platform's nth object: small ones mostly, and
// some that take two parts.
func sizeOf(platform string, nth int) int {
	small := 4*kib + (nth*7919)%(60*kib)
	switch platform {
	case "tencentugc", "tencentvod": // parts of 1 MiB
		if nth%20 == 7 {
			return mib + small
		}
	case "cdnetworks": // of 4 MiB
		if nth%40 == 7 {
			return 4*mib + small
		}
	default: // of 16 MiB
		if nth%100 == 7 {
			return 16*mib + small
		}
	}
	return small
}

// submitAll stores the objects and submits them, each when it is there.
func submitAll(t *testing.T, from source, o *ours, all []sent) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(4)
	for i := range all {
		g.Go(func() error {
			s := &all[i]
			data, err := from.put(ctx, s.key, s.size)
			if err != nil {
				return err
			}
			s.digest = sha256.Sum256(data)
			u, _, err := o.api.Submit(ctx, client.Submission{
				Account: s.account.Name, Source: client.Source{Bucket: bucket, Key: s.key}, IdempotencyKey: s.key,
			})
			s.id = u.ID
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// allEnded waits until all uploads have ended, but not for ever.
func (o *ours) allEnded(t *testing.T) {
	t.Helper()
	deadline := time.After(allEnd)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var active int
		err := o.db.QueryRow(t.Context(),
			`SELECT count(*) FROM uploads WHERE state NOT IN ('completed', 'failed', 'cancelled')`).Scan(&active)
		if err != nil {
			t.Fatal(err)
		}
		if active == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("after %s, %d uploads have not ended", allEnd, active)
			return
		}
	}
}

// notCompleted counts the uploads that were not, and logs what was done for each.
func (o *ours) notCompleted(t *testing.T) (needsHuman, otherwise int) {
	t.Helper()
	rows, err := o.db.Query(t.Context(), `SELECT id::text, account, state::text, coalesce(failure->>'cause', ''), coalesce(failure->>'message', '')
		FROM uploads WHERE state <> 'completed' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, account, state, cause, message string
		if err := rows.Scan(&id, &account, &state, &cause, &message); err != nil {
			t.Fatal(err)
		}
		if cause == string(uploads.CauseNeedsHuman) {
			needsHuman++
		} else {
			otherwise++
		}
		t.Errorf("%s of %s is %s: %s: %s", id, account, state, cause, message)
		o.log.print(t, id, 40)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return needsHuman, otherwise
}

// checkAssets asks the servers what they have, and returns how many assets
// there are beyond one for each upload. No two objects have the same bytes, so
// their digest tells whose asset one is, whatever its name or id.
func checkAssets(t *testing.T, o *ours, platforms []platform, all []sent) (double int) {
	t.Helper()
	type content struct {
		platform string
		digest   [sha256.Size]byte
	}
	assets := make(map[content][]string)
	get := fetcher(t)
	for _, p := range platforms {
		for _, f := range p.files() {
			if f.asset != "" {
				c := content{p.name, digestOf(t, get, f.url)}
				assets[c] = append(assets[c], f.asset)
			}
		}
	}
	recorded := o.recorded(t)
	for _, s := range all {
		c := content{s.account.Provider, s.digest}
		ids := assets[c]
		delete(assets, c)
		switch {
		case len(ids) > 1:
			double += len(ids) - 1
			t.Errorf("%s, %s of %s, has %d assets: %q", s.id, s.key, s.account.Name, len(ids), ids)
			o.log.print(t, s.id, 40)
		case len(ids) == 0:
			t.Errorf("%s, %s of %s, has no asset with its bytes", s.id, s.key, s.account.Name)
			o.log.print(t, s.id, 40)
		case !strings.HasSuffix(ids[0], recorded[s.id]) || recorded[s.id] == "":
			t.Errorf("%s of %s has asset %q, recorded is %q", s.id, s.account.Name, ids[0], recorded[s.id])
		}
	}
	for c, ids := range assets {
		double += len(ids)
		t.Errorf("%s has assets %q with bytes that nobody sent", c.platform, ids)
	}
	return double
}

// recorded returns the ids of the assets that we know of, by upload.
func (o *ours) recorded(t *testing.T) map[string]string {
	t.Helper()
	rows, err := o.db.Query(t.Context(), `SELECT id::text, asset->>'id' FROM uploads WHERE asset IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	ids := make(map[string]string)
	for rows.Next() {
		var id, asset string
		if err := rows.Scan(&id, &asset); err != nil {
			t.Fatal(err)
		}
		ids[id] = asset
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}
