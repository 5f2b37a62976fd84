package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const shown = 5 // counter-examples of a check that are printed in full

// report runs the checks and prints what they found and the figures. It returns
// whether nothing contradicts an invariant.
func (e *evidence) report(out io.Writer, settled time.Duration) (ok bool) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	counts := make(map[string]int)
	ok = true
	for _, c := range checks() {
		found := c.find(e)
		counts[c.name] = len(found)
		verdict := "holds"
		if len(found) > 0 {
			verdict, ok = fmt.Sprintf("VIOLATED: %d counter-examples", len(found)), false
		}
		say("invariant %-30s %s", c.name, verdict)
		for i, f := range found {
			if i == shown {
				say("    … and %d more", len(found)-shown)
				break
			}
			say("  - %s %s", f.upload, f.text)
			for _, line := range e.timeline(f.upload) {
				say("      %s", line)
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
	tries := make(map[string]int)
	for _, f := range e.record.failures {
		tries[f.kind]++
	}
	say("uploads by state %v, failures by cause %v, failed tries by kind %v", states, causes, tries)
	e.printFaults(say)

	return e.figures(say, counts, settled) && ok
}

// printFaults says what took place of each kind, and of which kinds nothing did.
func (e *evidence) printFaults(say func(string, ...any)) {
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
			if n, _ := fmt.Sscanf(in.what, "%d calls at", &calls); n == 1 && strings.Contains(in.what, "gates") {
				hit += calls
			}
			if in.err != nil {
				errs = append(errs, in.err.Error())
			}
		}
		line := fmt.Sprintf("figure faults_%s %d count", kind, took)
		switch {
		case took == 0:
			line += " (none was injected)"
		case hit > 0:
			line += fmt.Sprintf(" (%d calls hit)", hit)
		}
		if len(errs) > 0 {
			line += " (" + strings.Join(errs, "; ") + ")"
		}
		say("%s", line)
	}
}
