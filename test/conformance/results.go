package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
)

// The attributes by which the suite tells its cases, why one is left out and how
// much one looked at. The events are all that is known of it here.
const (
	attrCases         = "conformance-cases"
	attrNotApplicable = "conformance-not-applicable"
	attrNote          = "conformance-note"
)

// outcome is what came of one case.
type outcome string

const (
	passed        outcome = "pass"
	failed        outcome = "fail"
	notApplicable outcome = "n.a."
	missing       outcome = "missing"
)

func outcomes() []outcome { return []outcome{passed, failed, notApplicable, missing} }

// event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Key     string
	Value   string
}

// results are what came of the suite, by provider.
type results struct {
	providers []string
	cases     []string // in the suite's order
	suites    map[string]map[string]*suite
	broken    map[string]string // output of packages that failed outside of any case
}

// suite is one run of the suite: a provider under one of its settings.
type suite struct {
	ended  map[string]outcome // by case, as tests are named
	reason map[string]string  // for cases not applicable
	note   map[string]string  // for cases that say more than that they passed
	output map[string]string
}

// read takes the events of all providers' runs.
func read(events io.Reader, providers []string) (results, error) {
	r := results{providers: providers, suites: make(map[string]map[string]*suite), broken: make(map[string]string)}
	for _, p := range providers {
		r.suites[p] = make(map[string]*suite)
	}
	decoder := json.NewDecoder(events)
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return r, nil
		} else if err != nil {
			return r, fmt.Errorf("read the events of go test: %w", err)
		}
		r.add(e)
	}
}

func (r *results) add(e event) {
	provider := path.Base(e.Package)
	if e.Action == "attr" && e.Key == attrCases {
		for name := range strings.SplitSeq(e.Value, "; ") {
			if !slices.Contains(r.cases, name) {
				r.cases = append(r.cases, name)
			}
		}
		if r.suites[provider] != nil {
			r.suite(provider, e.Test)
		}
		return
	}
	if r.suites[provider] == nil {
		return
	}
	parent, name := path.Split(e.Test)
	s := r.suites[provider][strings.TrimSuffix(parent, "/")]
	if s == nil { // not of a case
		if e.Action == "output" {
			r.broken[provider] += e.Output
		}
		return
	}
	switch e.Action {
	case "pass":
		s.ended[name] = passed
	case "fail":
		s.ended[name] = failed
	case "skip":
		s.ended[name] = notApplicable
	case "attr":
		switch e.Key {
		case attrNotApplicable:
			s.reason[name] = e.Value
		case attrNote:
			s.note[name] = e.Value
		}
	case "output":
		s.output[name] += e.Output
	}
}

func (r *results) suite(provider, test string) *suite {
	s := r.suites[provider][test]
	if s == nil {
		s = &suite{ended: make(map[string]outcome), reason: make(map[string]string), note: make(map[string]string), output: make(map[string]string)}
		r.suites[provider][test] = s
	}
	return s
}

// of returns what came of the case. One that did not end is missing, and so is
// one that was skipped without a reason.
func (s *suite) of(name string) outcome {
	test := testName(name)
	o, ok := s.ended[test]
	if !ok || (o == notApplicable && s.reason[test] == "") {
		return missing
	}
	return o
}

// testName writes a name as go test does.
func testName(name string) string { return strings.ReplaceAll(name, " ", "_") }

// print writes the table, the reasons and the figures, and reports whether
// nothing failed and nothing is missing.
func (r *results) print(w io.Writer) (ok bool) {
	total := make(map[outcome]int)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "case\t%s\n", strings.Join(r.providers, "\t"))
	for _, name := range r.cases {
		row := []string{name}
		for _, p := range r.providers {
			count := make(map[outcome]int)
			for _, s := range r.suites[p] {
				count[s.of(name)]++
			}
			if len(r.suites[p]) == 0 {
				count[missing]++
			}
			for o, n := range count {
				total[o] += n
			}
			row = append(row, cell(count))
		}
		_, _ = fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // nobody is left to tell
	r.printWords(w, "not applicable", func(s *suite, name string) string {
		if s.of(name) != notApplicable {
			return ""
		}
		return s.reason[testName(name)]
	})
	r.printWords(w, "looked at", func(s *suite, name string) string { return s.note[testName(name)] })
	r.printFailures(w)
	_, _ = fmt.Fprintf(w, "\nfigure conformance_passed %d count\n", total[passed])
	_, _ = fmt.Fprintf(w, "figure conformance_failed %d count\n", total[failed])
	_, _ = fmt.Fprintf(w, "figure conformance_not_applicable %d count\n", total[notApplicable])
	_, _ = fmt.Fprintf(w, "figure conformance_missing %d count\n", total[missing])
	return len(r.cases) > 0 && len(r.providers) > 0 && total[failed] == 0 && total[missing] == 0
}

// cell writes what came of a case under all of a provider's settings: the
// outcome where there is one, else how many there are of each.
func cell(count map[outcome]int) string {
	var some []string
	for _, o := range outcomes() {
		if count[o] > 0 {
			some = append(some, fmt.Sprintf("%d %s", count[o], o))
		}
	}
	return strings.Join(some, ", ")
}

// printWords writes what is said of cases, each thing once a provider.
func (r *results) printWords(w io.Writer, title string, of func(s *suite, name string) string) {
	_, _ = fmt.Fprintf(w, "\n%s:\n", title)
	for _, p := range r.providers {
		for _, name := range r.cases {
			settings := make(map[string][]string) // by what is said
			for _, test := range slices.Sorted(maps.Keys(r.suites[p])) {
				if said := of(r.suites[p][test], name); said != "" {
					settings[said] = append(settings[said], setting(test))
				}
			}
			for _, said := range slices.Sorted(maps.Keys(settings)) {
				where := ""
				if len(settings[said]) < len(r.suites[p]) {
					where = " (" + strings.Join(settings[said], "; ") + ")"
				}
				_, _ = fmt.Fprintf(w, "  %s, %s%s: %s\n", p, name, where, said)
			}
		}
	}
}

// setting is the part of a test's name that tells the provider's settings.
func setting(test string) string {
	_, name, _ := strings.Cut(test, "/")
	return strings.ReplaceAll(name, "_", " ")
}

// printFailures hands on what failed cases, and providers whose tests did not
// come to all cases, have to say.
func (r *results) printFailures(w io.Writer) {
	for _, p := range r.providers {
		incomplete := len(r.suites[p]) == 0
		for _, test := range slices.Sorted(maps.Keys(r.suites[p])) {
			s := r.suites[p][test]
			for _, name := range r.cases {
				switch s.of(name) {
				case failed:
					_, _ = fmt.Fprintf(w, "\n%s, %s, %s:\n%s", p, setting(test), name, s.output[testName(name)])
				case missing:
					incomplete = true
				case passed, notApplicable:
				}
			}
		}
		if incomplete {
			_, _ = fmt.Fprintf(w, "\n%s did not come to all cases:\n%s", p, r.broken[p])
		}
	}
}
