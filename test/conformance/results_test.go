package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const announced = `{"Action":"attr","Package":"p/one","Test":"TestConforms/a","Key":"conformance-cases","Value":"first case; second case"}
`

func TestResults(t *testing.T) {
	t.Parallel()
	const reason = `{"Action":"attr","Package":"p/one","Test":"TestConforms/a/second_case","Key":"conformance-not-applicable","Value":"the platform has none"}
`
	ends := func(action, name string) string {
		return `{"Action":"` + action + `","Package":"p/one","Test":"TestConforms/a/` + name + `"}` + "\n"
	}
	for name, tt := range map[string]struct {
		events    string
		providers []string
		want      string
		ok        bool
	}{
		"all is well": {
			events: announced + ends("pass", "first_case") + reason + ends("skip", "second_case"),
			want:   "1 0 1 0", ok: true,
		},
		"one fails":                     {events: announced + ends("fail", "first_case") + ends("pass", "second_case"), want: "1 1 0 0"},
		"one never ends":                {events: announced + ends("pass", "first_case"), want: "1 0 0 1"},
		"one is skipped for no reason":  {events: announced + ends("pass", "first_case") + ends("skip", "second_case"), want: "1 0 0 1"},
		"a provider has no suite":       {events: announced + ends("pass", "first_case") + ends("pass", "second_case"), providers: []string{"two"}, want: "2 0 0 2"},
		"nothing was built":             {want: "0 0 0 0"},
		"a case is left out of a suite": {events: announced + strings.Replace(announced, "; second case", "", 1) + ends("pass", "first_case"), want: "1 0 0 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := read(strings.NewReader(tt.events), append([]string{"one"}, tt.providers...))
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			ok := r.print(&out)
			var figures []string
			for line := range strings.Lines(out.String()) {
				if f := strings.Fields(line); len(f) == 4 && f[0] == "figure" {
					figures = append(figures, f[2])
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(figures, " ")); diff != "" || ok != tt.ok {
				t.Errorf("passed, failed, not applicable, missing (-want +got):\n%sok is %t\n%s", diff, ok, out.String())
			}
		})
	}
}

func TestProvidersOf(t *testing.T) {
	t.Parallel()
	const below = "mediaferry/internal/providers"
	got := providersOf([]string{below, below + "/all", below + "/s3", below + "/providertest", below + "/settings", below + "/vodapi", below + "/webapi", below + "/tencentsmh"})
	if diff := cmp.Diff([]string{"s3", "tencentsmh"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatCasesSayIsPrinted(t *testing.T) {
	t.Parallel()
	attr := func(name, key, value string) string {
		return `{"Action":"attr","Package":"p/one","Test":"TestConforms/a/` + name + `","Key":"` + key + `","Value":"` + value + `"}` + "\n"
	}
	end := func(action, name string) string {
		return `{"Action":"` + action + `","Package":"p/one","Test":"TestConforms/a/` + name + `"}` + "\n"
	}
	r, err := read(strings.NewReader(announced+
		attr("first_case", attrNote, "12 answers")+end("pass", "first_case")+
		attr("second_case", attrNotApplicable, "there is none")+end("skip", "second_case")), []string{"one"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{"\nnot applicable:\n  one, second case: there is none\n", "\nlooked at:\n  one, first case: 12 answers\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
