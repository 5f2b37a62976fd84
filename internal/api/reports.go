package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"mime"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// reportCases answers the ready questions. They are about all tenants.
type reportCases interface {
	Reports(ctx context.Context) ([]uploads.Report, error)
	// Report changes nothing. It fails with uploads.ErrNoReport.
	Report(ctx context.Context, name string, since time.Time) (uploads.ReportRows, error)
}

const (
	reportDays = 7 // back, where since is not given
	csvType    = "text/csv"
)

func (s *server) registerReports(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	huma.Register(api, op("GET", "/v1/reports", "list-reports", "List the ready questions", 503), s.listReports)
	run := op("GET", "/v1/reports/{name}", "report", "Answer a ready question, as JSON or, where Accept asks for text/csv, as CSV", 404, 422, 503)
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.ReportRows](), true, "")
	run.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"application/json": {Schema: schema},
		csvType:            {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
	huma.Register(api, run, s.report)
}

type reportsAnswer struct {
	Body wire.ReportList
}

func (s *server) listReports(ctx context.Context, _ *struct{}) (*reportsAnswer, error) {
	all, err := s.uc.Reports(ctx)
	if err != nil {
		return nil, s.problem("list-reports", err)
	}
	out := wire.ReportList{Reports: make([]wire.Report, len(all))}
	for i, r := range all {
		out.Reports[i] = wire.Report(r)
	}
	return &reportsAnswer{Body: out}, nil
}

type reportRequest struct {
	Name   string    `path:"name" maxLength:"64" doc:"the report"`
	Since  time.Time `query:"since" doc:"it is about the time from then on; a week back, if left out"`
	Accept string    `header:"Accept" doc:"text/csv for CSV"`
}

type reportAnswer struct {
	ContentType string `header:"Content-Type"`
	Vary        string `header:"Vary"`
	Body        []byte
}

func (s *server) report(ctx context.Context, in *reportRequest) (*reportAnswer, error) {
	if in.Since.IsZero() {
		in.Since = time.Now().AddDate(0, 0, -reportDays)
	}
	found, err := s.uc.Report(ctx, in.Name, in.Since)
	if err != nil {
		return nil, s.problem("report", err)
	}
	out := &reportAnswer{ContentType: "application/json", Vary: "Accept"}
	if accepts(in.Accept, csvType) {
		out.ContentType = csvType + "; charset=utf-8; header=present"
		out.Body, err = reportCSV(found)
	} else {
		out.Body, err = reportJSON(in, found)
	}
	if err != nil {
		return nil, s.problem("report", err)
	}
	return out, nil
}

// accepts reports whether a header Accept names the media type.
func accepts(header, want string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if name, _, err := mime.ParseMediaType(part); err == nil && name == want {
			return true
		}
	}
	return false
}

func reportJSON(in *reportRequest, found uploads.ReportRows) ([]byte, error) {
	out := wire.ReportRows{Report: in.Name, Since: in.Since.UTC(), Columns: found.Columns, Rows: make([][]json.RawMessage, len(found.Rows))}
	for i, row := range found.Rows {
		out.Rows[i] = make([]json.RawMessage, len(row))
		for j, v := range row {
			if at, ok := v.(time.Time); ok {
				v = at.UTC()
			}
			text, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("encode column %s: %w", found.Columns[j], err)
			}
			out.Rows[i][j] = text
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode the report: %w", err)
	}
	return text, nil
}

// reportCSV writes a line of column names and one for each row (RFC 4180). What
// is missing is empty.
func reportCSV(found uploads.ReportRows) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	lines := make([][]string, 0, len(found.Rows)+1)
	lines = append(lines, found.Columns)
	for _, row := range found.Rows {
		line := make([]string, len(row))
		for i, v := range row {
			line[i] = plainText(v)
		}
		lines = append(lines, line)
	}
	if err := w.WriteAll(lines); err != nil {
		return nil, fmt.Errorf("write CSV: %w", err)
	}
	return b.Bytes(), nil
}

func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}
