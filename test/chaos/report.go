package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const shown = 5 // counter-examples of a check that are printed in full

// report runs the checks and prints what they found and the figures. It returns
// whether nothing contradicts an invariant.
func (e *evidence) report(out io.Writer, settled time.Duration) (ok bool) {
	print := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	counts := make(map[string]int)
	ok = true
	for _, c := range checks() {
		found := c.find(e)
		counts[c.name] = len(found)
		verdict := "holds"
		if len(found) > 0 {
			verdict, ok = fmt.Sprintf("VIOLATED: %d counter-examples", len(found)), false
		}
		print("invariant %-30s %s", c.name, verdict)
		for i, f := range found {
			if i == shown {
				print("    … and %d more", len(found)-shown)
				break
			}
			print("  - %s %s", f.upload, f.text)
			for _, line := range e.timeline(f.upload) {
				print("      %s", line)
			}
		}
	}
	states := make(map[string]int)
	causes := make(map[string]int)
	for _, u := range e.record.uploads {
		states[u.state]++
		if u.state == "failed" {
			causes[u.cause]++
		}
	}
	print("uploads by state %v, failures by cause %v, failed tries %d", states, causes, len(e.record.failures))
	e.printFaults(print)

	var objects, received int64
	for _, u := range e.record.uploads {
		for _, a := range e.record.acks[u.id] {
			if !a.found {
				objects += a.length
			}
		}
	}
	for _, a := range e.w.accounts {
		for _, c := range a.gate.log() {
			if c.Length >= 4*kib {
				received += c.Received
			}
		}
	}
	var double int
	for _, f := range oneAsset(e) {
		if f.check == "double" {
			double++
		}
	}
	print("figure chaos_uploads %d count", len(e.record.uploads))
	print("figure chaos_faults %d count", slices.IndexFunc(append(slices.Clone(e.faults), injected{event: event{kind: "end"}}), func(in injected) bool { return in.kind == "end" }))
	print("figure chaos_lost %d count", counts["1 accepted uploads end"])
	print("figure chaos_unexplained_failures %d count", counts["1 failures are explained"])
	print("figure chaos_double_assets %d count", double)
	print("figure chaos_wrong_bytes %d count", counts["6 7 right bytes"])
	if objects > 0 {
		print("figure chaos_sent_twice_pct %.2f %%", max(0, 100*float64(received-objects)/float64(objects)))
	}
	print("figure chaos_settle_s %.1f s", settled.Seconds())
	return ok
}

// printFaults says what took place of each kind, and of which kinds nothing did.
func (e *evidence) printFaults(print func(string, ...any)) {
	for _, kind := range append(processKinds(), trafficKinds()...) {
		var took, hit int
		var errs []string
		for _, in := range e.faults {
			if in.kind != kind {
				continue
			}
			if in.none {
				continue
			}
			took++
			var calls int
			if n, _ := fmt.Sscanf(in.what, "%d calls", &calls); n == 1 {
				hit += calls
			}
			if in.err != nil {
				errs = append(errs, in.err.Error())
			}
		}
		line := fmt.Sprintf("figure chaos_faults_%s %d count", kind, took)
		switch {
		case took == 0:
			line += " (none was injected)"
		case hit > 0:
			line += fmt.Sprintf(" (%d calls hit)", hit)
		}
		if len(errs) > 0 {
			line += " (" + strings.Join(errs, "; ") + ")"
		}
		print("%s", line)
	}
}
