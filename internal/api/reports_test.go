package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/access"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

func reporting() *apitest.UseCases {
	return &apitest.UseCases{Answers: map[string]uploads.ReportRows{"sla": {
		Columns: []string{"day", "tenant", "bytes", "share", "late", "none"},
		Rows: [][]any{
			{time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), `a "b", c`, int64(1) << 60, 0.25, true, nil},
			{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), "old", int64(1), 1.0, false, nil},
		},
	}}}
}

func TestReports(t *testing.T) {
	t.Parallel()
	url := apitest.Start(t, reporting())
	list := decode[wire.ReportList](t, call(t, "GET", url+"/v1/reports", ""))
	want := wire.ReportList{Reports: []wire.Report{{Name: "sla", Question: "What of sla?", SQL: "SELECT 1"}}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	const (
		path    = "/v1/reports/sla?since=2026-11-01T00:00:00Z"
		asJSON  = `{"report":"sla","since":"2026-11-01T00:00:00Z","columns":["day","tenant","bytes","share","late","none"],"rows":[["2026-11-02T00:00:00Z","a \"b\", c",1152921504606846976,0.25,true,null]]}`
		asCSV   = "day,tenant,bytes,share,late,none\n2026-11-02T00:00:00Z,\"a \"\"b\"\", c\",1152921504606846976,0.25,true,\n"
		csvType = "text/csv; charset=utf-8; header=present"
	)
	for accept, want := range map[string]answer{
		"":                             {http.StatusOK, http.Header{"Content-Type": {"application/json"}}, asJSON},
		"application/json":             {http.StatusOK, http.Header{"Content-Type": {"application/json"}}, asJSON},
		"text/csv":                     {http.StatusOK, http.Header{"Content-Type": {csvType}}, asCSV},
		"text/html, text/csv;q=0.9":    {http.StatusOK, http.Header{"Content-Type": {csvType}}, asCSV},
		"text/html, application/xml,*": {http.StatusOK, http.Header{"Content-Type": {"application/json"}}, asJSON},
	} {
		got := call(t, "GET", url+path, "", "Accept", accept)
		if got.status != want.status || got.header.Get("Content-Type") != want.header.Get("Content-Type") || got.body != want.body {
			t.Errorf("Accept %q: %d %s %s\nwant %s", accept, got.status, got.header.Get("Content-Type"), got.body, want.body)
		}
	}
	// Without since it is the last week.
	if got := decode[wire.ReportRows](t, call(t, "GET", url+"/v1/reports/sla", "")); time.Since(got.Since) > 8*24*time.Hour || time.Since(got.Since) < 6*24*time.Hour {
		t.Errorf("since %v, want a week ago", got.Since)
	}
	for path, want := range map[string]int{
		"/v1/reports/weather":             http.StatusNotFound,
		"/v1/reports/sla?since=yesterday": http.StatusUnprocessableEntity,
		"/v1/reports/sla?sinse=x":         http.StatusUnprocessableEntity,
	} {
		if a := call(t, "GET", url+path, ""); a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
}

// Reports are about all tenants, which a token of one must not see.
func TestReportsAreOfAllTenants(t *testing.T) {
	t.Parallel()
	tokens := &apitest.Tokens{}
	_, all := tokens.Make(t, "", access.Read)
	_, one := tokens.Make(t, "a", access.Read, access.Operate)
	uc := reporting()
	uc.Tokens = tokens
	url := apitest.Start(t, uc)
	for _, path := range []string{"/v1/reports", "/v1/reports/sla"} {
		for token, want := range map[string]int{all: http.StatusOK, one: http.StatusForbidden} {
			if a := call(t, "GET", url+path, "", "Authorization", "Bearer "+token); a.status != want {
				t.Errorf("%s: %d, want %d", path, a.status, want)
			}
		}
	}
}
