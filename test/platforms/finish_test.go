package platforms_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"mediaferry/client"
	"mediaferry/internal/upstreams"
)

// TestBreakPointsOfFinish goes through the calls that finish an upload, and
// those that ask what became of it. Each fails in every way there is, before it
// takes effect and after. The platform's own server is asked what came of it:
// one asset with the right bytes each time, and no second call of a kind whose
// outcome was unknown before a question.
func TestBreakPointsOfFinish(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		start  func(t *testing.T, accounts int) platform
		size   int
		finish []string // calls on the way to an asset
		asks   []string // calls that tell what became of them
	}{
		"tencentugc": {startTencentUGC, mib + 100, []string{upstreams.ActionFinish}, []string{upstreams.ActionInit}},
		"tencentvod": {startTencentVOD, mib + 100, []string{upstreams.ActionServerFinish}, []string{upstreams.ActionServerInit}},
		"tencentcos": {
			startTencentCOS, 16*mib + 100,
			[]string{upstreams.COSComplete, upstreams.ActionCommit},
			[]string{upstreams.COSListParts, upstreams.COSHeadObject},
		},
		"cdnetworks": {startCDNetworks, 4*mib + 100, []string{upstreams.ActionMakeFile}, []string{upstreams.ActionGetVideoList}},
		"tencentsmh": {
			startTencentSMH, 16*mib + 100, []string{upstreams.ActionSMHConfirm}, []string{upstreams.ActionSMHStatus, upstreams.ActionSMHInfo},
		},
	}
	failures := map[string]upstreams.Fault{
		"reset":             {Reset: true},
		"502":               {Status: 502},
		"503":               {Status: 503},
		"200 with no sense": {Text: "<html>please wait</html>"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			type breakPoint struct {
				name string
				call string
				fail []upstreams.Fault
			}
			var points []breakPoint
			for _, call := range tt.finish {
				for how, f := range failures {
					for _, apply := range []bool{false, true} {
						f.Action, f.Apply, f.Times = call, apply, 1
						points = append(points, breakPoint{fmt.Sprintf("%s/%s/applied=%t", call, how, apply), call, []upstreams.Fault{f}})
					}
				}
				// The answer is lost, and so is that to the question.
				lost := []upstreams.Fault{{Action: call, Apply: true, Reset: true, Times: 1}}
				for _, ask := range tt.asks {
					lost = append(lost, upstreams.Fault{Action: ask, Apply: true, Reset: true, Times: 1})
				}
				points = append(points, breakPoint{call + "/and no answer to the question", call, lost})
			}
			p := tt.start(t, len(points))
			from := startSource(t)
			o := startOurs(t, from, p.accounts)
			for i, b := range points {
				key := fmt.Sprintf("film-%d.mp4", i)
				data, err := from.put(t.Context(), key, tt.size)
				if err != nil {
					t.Fatal(err)
				}
				before, calls := finished(p), len(p.calls())
				p.faults(b.fail[0])
				u, _, err := o.api.Submit(t.Context(), client.Submission{
					Account: p.accounts[i].Name, Source: client.Source{Bucket: bucket, Key: key},
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(b.fail) > 1 { // begin asks too, and is not what is meant
					until(t, "call of "+b.call, func() bool { return made(p.calls()[calls:], b.call) > 0 })
					p.faults(b.fail[1:]...)
				}
				u, err = o.api.Wait(t.Context(), u.ID, nil)
				p.clear()
				if err != nil || u.Asset == nil {
					t.Errorf("%s: %s, %+v, %v", b.name, u.State, u.Failure, err)
					o.log.print(t, u.ID, 40)
					continue
				}
				there := slices.DeleteFunc(finished(p), func(f file) bool { return slices.Contains(before, f) })
				if len(there) != 1 || digestOf(t, fetcher(t), there[0].url) != sha256.Sum256(data) {
					t.Errorf("%s: the platform has %+v of it, want one asset with its bytes", b.name, there)
				}
				asked := true
				for _, c := range p.calls()[calls:] {
					if c.Action == b.call {
						if !asked {
							t.Errorf("%s: it was called again, and nobody had asked: %+v", b.name, p.calls()[calls:])
						}
						asked = false
					}
					asked = asked || slices.Contains(tt.asks, c.Action)
				}
			}
		})
	}
}

// finished returns the assets that a platform has made.
func finished(p platform) (all []file) {
	for _, f := range p.files() {
		if f.asset != "" {
			all = append(all, f)
		}
	}
	return all
}

func made(calls []upstreams.Call, action string) (n int) {
	for _, c := range calls {
		if c.Action == action {
			n++
		}
	}
	return n
}
