package platforms_test

import (
	"fmt"
	"slices"
	"testing"

	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// TestStrangeAnswers has something on the way answer in the platform's place,
// twice for each call that an upload makes: a page of its own with a success, a
// success without a word, a redirect to somewhere. None of these is an answer of
// the platform, so no upload fails of it, and each comes to one asset.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	answers := map[string]upstreams.Fault{
		"a page":     {Text: "<html>back soon</html>"},
		"other JSON": {Text: `{"status":"ok"}`},
		"no content": {Status: 204},
		"a redirect": {Status: 302},
	}
	const accounts = 40
	for name, tt := range map[string]struct {
		start   func(t *testing.T, accounts int) platform
		account func(n int) string // as the platform's log has it
		size    int                // two parts
	}{
		"tencentugc": {startTencentUGC, keyID, mib + 100},
		"tencentvod": {startTencentVOD, keyID, mib + 100},
		"tencentcos": {startTencentCOS, keyID, 16*mib + 100},
		"cdnetworks": {startCDNetworks, keyID, 4*mib + 100},
		"tencentsmh": {startTencentSMH, func(n int) string { return fmt.Sprintf("smh%d", n) }, 16*mib + 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tt.start(t, accounts)
			from := startSource(t)
			o := startOurs(t, from, p.accounts)
			first := []sent{{key: "first.mp4", size: tt.size, account: p.accounts[0]}}
			submitAll(t, from, o, first)
			if _, err := o.api.Wait(t.Context(), first[0].id, nil); err != nil {
				t.Fatal(err)
			}
			var calls []string
			for _, c := range p.calls() {
				if !slices.Contains(calls, c.Action) {
					calls = append(calls, c.Action)
				}
			}
			var all []sent
			what := make(map[string]string)
			for _, call := range calls {
				for how, f := range answers {
					n := len(all) + 1
					f.Action, f.Account, f.Times = call, tt.account(n), 2
					p.faults(f)
					key := fmt.Sprintf("film-%d.mp4", n)
					what[key] = how + " to " + call
					all = append(all, sent{key: key, size: tt.size, account: p.accounts[n]})
				}
			}
			submitAll(t, from, o, all)
			for _, s := range all {
				u, err := o.api.Wait(t.Context(), s.id, nil)
				if err != nil || u.State != string(uploads.Completed) {
					t.Errorf("%s: %s, %+v, %v", what[s.key], u.State, u.Failure, err)
					o.log.print(t, s.id, 20)
				}
			}
			if hit := hits(p.calls()); hit < 2*len(all) {
				t.Errorf("%d answers were strange, want two for each of %d uploads", hit, len(all))
			}
			if !t.Failed() {
				checkAssets(t, o, []platform{p}, append(first, all...))
			}
		})
	}
}

// hits counts the calls that a fault has answered.
func hits(calls []upstreams.Call) (n int) {
	for _, c := range calls {
		if len(c.Outcome) >= 5 && c.Outcome[:5] == "fault" {
			n++
		}
	}
	return n
}
