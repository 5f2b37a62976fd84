package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// maxBulkBody is in bytes: a hundred thousand lines of 600.
const maxBulkBody = 64 << 20

type bulkRequest struct {
	TenantParam
	Type    string `header:"Content-Type" doc:"application/x-ndjson or text/csv"`
	RawBody []byte `contentType:"application/x-ndjson" doc:"a submission in JSON on each line; or CSV, with text/csv"`
}

type bulkAnswer struct {
	Body wire.BulkResult
}

// oneBulk lets one bulk submission through at a time: its body and lines are kept
// in memory, so others are turned away before theirs are read.
func (s *server) oneBulk(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		select {
		case s.bulk <- struct{}{}:
			defer func() { <-s.bulk }()
			next(ctx)
		default:
			ctx.SetHeader("Retry-After", retryAfter)
			_ = huma.WriteErr(api, ctx, http.StatusServiceUnavailable, // a caller that went away needs no answer
				"another bulk submission is being taken; try again when it is over")
		}
	}
}

func (s *server) submitBulk(ctx context.Context, in *bulkRequest) (*bulkAnswer, error) {
	read := readLines
	switch kind, _, _ := mime.ParseMediaType(in.Type); kind {
	case "application/x-ndjson", "application/jsonl", "application/json":
	case "text/csv":
		read = readCSV
	default:
		return nil, s.problem("submit-bulk", &uploads.FieldError{
			Field: "header.Content-Type", Detail: fmt.Sprintf("is %q; give application/x-ndjson or text/csv", in.Type),
		})
	}
	var lines []uploads.Line
	var bad []uploads.LineError
	body := bytes.TrimPrefix(in.RawBody, []byte("\ufeff")) // as spreadsheets begin a file
	err := read(body, func(number int, b wire.BulkLine, err error) error {
		if len(lines)+len(bad) == uploads.MaxBulk {
			return &uploads.FieldError{Field: "lines", Detail: fmt.Sprintf("are more than %d; send the rest in further calls", uploads.MaxBulk)}
		}
		if err == nil && b.Size < 0 {
			err = &uploads.FieldError{Field: "size", Detail: "is negative; give bytes"}
		}
		var sub uploads.Submission
		if err == nil {
			sub, err = submission(in.Tenant, b.Submission)
		}
		if err != nil {
			bad = append(bad, uploads.LineError{Number: number, Err: err})
			return nil //nolint:nilerr // one bad line does not hold up the others
		}
		sub.Source.Size = b.Size
		lines = append(lines, uploads.Line{Number: number, Submission: sub})
		return nil
	})
	if err != nil {
		return nil, s.problem("submit-bulk", err)
	}
	res, err := s.uc.SubmitMany(ctx, in.Tenant, lines)
	if err != nil {
		return nil, s.problem("submit-bulk", err)
	}
	bad = append(bad, res.Rejected...)
	slices.SortStableFunc(bad, func(a, b uploads.LineError) int { return a.Number - b.Number })
	out := wire.BulkResult{Batch: idText(res.Batch), Submitted: res.Submitted, Known: res.Known, Rejected: []wire.RejectedLine{}}
	for _, l := range bad {
		fields := uploads.FieldErrors(l.Err)
		for _, f := range fields {
			out.Rejected = append(out.Rejected, wire.RejectedLine{Line: l.Number, Field: f.Field, Error: f.Detail})
		}
		if len(fields) == 0 {
			out.Rejected = append(out.Rejected, wire.RejectedLine{Line: l.Number, Field: "idempotency_key", Error: l.Err.Error()})
		}
	}
	return &bulkAnswer{Body: out}, nil
}

// readLines reads a submission in JSON from each line; empty ones are passed over.
func readLines(body []byte, line func(int, wire.BulkLine, error) error) error {
	number := 0
	for text := range bytes.Lines(body) {
		number++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var b wire.BulkLine
		if err := line(number, b, readJSON(text, &b)); err != nil {
			return err
		}
	}
	return nil
}

// readCSV reads submissions from CSV whose first record names the columns: the
// fields of a submission, bucket, key, version and etag of its source, size, and
// label.NAME and option.NAME. Digests are separated by spaces.
func readCSV(body []byte, line func(int, wire.BulkLine, error) error) error {
	r := csv.NewReader(bytes.NewReader(body))
	columns, err := r.Read()
	if err != nil {
		return &uploads.FieldError{Field: "lines[1]", Detail: "do not name the columns of CSV, such as account,bucket,key"}
	}
	columns = slices.Clone(columns)
	for i, name := range columns {
		if err := setColumn(&wire.BulkLine{}, name, ""); err != nil {
			return &uploads.FieldError{Field: "lines[1]", Detail: fmt.Sprintf("column %.80q is not known; columns are separated by commas, and docs/submitting.md lists them", name)}
		}
		if slices.Contains(columns[:i], name) {
			return &uploads.FieldError{Field: "lines[1]", Detail: fmt.Sprintf("column %q is there twice; leave one out", name)}
		}
	}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var number int
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			number = parse.StartLine
			if !errors.Is(err, csv.ErrFieldCount) {
				return &uploads.FieldError{Field: fmt.Sprintf("lines[%d]", number), Detail: "is not CSV: " + parse.Err.Error()}
			}
			err = &uploads.FieldError{Detail: fmt.Sprintf("has %d fields where the first line names %d; give as many", len(record), len(columns))}
		} else {
			number, _ = r.FieldPos(0)
		}
		var b wire.BulkLine
		for i := 0; err == nil && i < len(columns); i++ {
			err = setColumn(&b, columns[i], record[i])
		}
		if err := line(number, b, err); err != nil {
			return err
		}
	}
}

func setColumn(b *wire.BulkLine, name, value string) error {
	texts := map[string]*string{
		"account": &b.Account, "bucket": &b.Source.Bucket, "key": &b.Source.Key, "version": &b.Source.Version, "etag": &b.Source.ETag,
		"name": &b.Name, "content_type": &b.ContentType, "idempotency_key": &b.IdempotencyKey,
	}
	if text, ok := texts[name]; ok {
		*text = value
		return nil
	}
	var err error
	switch kind, key, named := strings.Cut(name, "."); {
	case named && (kind == "label" || kind == "option"):
		into := &b.Labels
		if kind == "option" {
			into = &b.Options
		}
		if value != "" {
			if *into == nil {
				*into = map[string]string{}
			}
			(*into)[key] = value
		}
	case name == "digests":
		b.Digests = strings.Fields(value)
	case name != "size" && name != "priority" && name != "not_before":
		return fmt.Errorf("column %s is not known", name)
	case value == "":
	case name == "size":
		b.Size, err = strconv.ParseInt(value, 10, 64)
	case name == "priority":
		b.Priority, err = strconv.Atoi(value)
	default:
		b.NotBefore, err = time.Parse(time.RFC3339, value)
	}
	if err != nil {
		return &uploads.FieldError{Field: name, Detail: fmt.Sprintf("is %q, which cannot be read; give a whole number, or a time as 2006-01-02T15:04:05Z", value)}
	}
	return nil
}
