package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// What --output names.
const (
	asTable = "table"
	asJSON  = "json"
	asJSONL = "jsonl"
	asCSV   = "csv"
)

func outputs() []string { return []string{asTable, asJSON, asJSONL, asCSV} }

func (a *app) checkOutput(*cobra.Command, []string) error {
	if !slices.Contains(outputs(), a.output) {
		return usagef("--output %q is not known; give table, json, jsonl or csv", a.output)
	}
	return nil
}

// column is what is told of a record in one place: in tables under its head, in
// CSV under its field of the API.
type column[T any] struct {
	head  string         // "" leaves it out of tables
	field string         // path in the record's JSON, such as "source.size"; "" leaves it out of CSV
	text  func(T) string // for a person; nil tells the field as it is
}

// printer prints records one by one as --output says: a table, one array of
// JSON, one object of JSON per line, or CSV with a header.
type printer[T any] struct {
	w       io.Writer
	format  string
	columns []column[T]
	line    func(T) string // in place of a row, for results that are told as they come
	table   *tabwriter.Writer
	csv     *csv.Writer
	count   int
}

func newPrinter[T any](a *app, columns []column[T]) *printer[T] {
	p := &printer[T]{w: a.stdout, format: a.output, columns: columns}
	switch p.format {
	case asTable:
		p.table = newTable(p.w)
	case asCSV:
		p.csv = csv.NewWriter(p.w)
	}
	return p
}

// newLines is newPrinter with a line of its own for each record in place of a table.
func newLines[T any](a *app, columns []column[T], line func(T) string) *printer[T] {
	p := newPrinter(a, columns)
	p.line = line
	return p
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// add prints a record; a table and an array are complete once end is called.
func (p *printer[T]) add(record T) error {
	if err := p.begin(); err != nil {
		return err
	}
	p.count++
	switch {
	case p.line != nil && p.format == asTable:
		_, _ = fmt.Fprintln(p.w, printable(p.line(record)))
		return nil
	case p.format == asJSON:
		text, err := marshal(record)
		if err != nil {
			return err
		}
		if p.count > 1 {
			_, _ = io.WriteString(p.w, ",")
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "  ", "  "); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		_, _ = fmt.Fprintf(p.w, "\n  %s", indented.Bytes())
		return nil
	case p.format == asJSONL:
		text, err := marshal(record)
		_, _ = fmt.Fprintf(p.w, "%s\n", text)
		return err
	}
	fields, err := fieldsOf(record)
	if err != nil {
		return err
	}
	return p.row(func(c column[T]) string {
		switch {
		case p.format == asCSV:
			return exact(fields.at(c.field))
		case c.text != nil:
			return printable(c.text(record))
		default:
			return cellText(fields.at(c.field))
		}
	})
}

// begin prints what comes before the first record.
func (p *printer[T]) begin() error {
	switch {
	case p.count > 0, p.format == asJSONL, p.line != nil && p.format == asTable:
		return nil
	case p.format == asJSON:
		_, _ = io.WriteString(p.w, "[")
		return nil
	case p.format == asCSV:
		return p.row(func(c column[T]) string { return c.field })
	default:
		return p.row(func(c column[T]) string { return c.head })
	}
}

// row prints a cell for each column that the format has.
func (p *printer[T]) row(cell func(column[T]) string) error {
	var cells []string
	for _, c := range p.columns {
		if p.format == asCSV && c.field == "" || p.format == asTable && c.head == "" {
			continue
		}
		cells = append(cells, cell(c))
	}
	if p.format == asTable {
		_, _ = fmt.Fprintln(p.table, strings.Join(cells, "\t"))
		return nil
	}
	if err := p.csv.Write(cells); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	p.csv.Flush() // records that come slowly are of use at once
	return nil
}

// cells prints a row of a table that stands for no single record.
func (p *printer[T]) cells(texts ...string) error {
	if err := p.begin(); err != nil {
		return err
	}
	p.count++
	for i, text := range texts {
		texts[i] = printable(text)
	}
	_, _ = fmt.Fprintln(p.table, strings.Join(texts, "\t"))
	return nil
}

// end completes what was printed; where nothing was, it is an empty list.
func (p *printer[T]) end() error {
	if p.count == 0 {
		if err := p.begin(); err != nil {
			return err
		}
	}
	switch p.format {
	case asJSON:
		if p.count > 0 {
			_, _ = io.WriteString(p.w, "\n")
		}
		_, _ = io.WriteString(p.w, "]\n")
	case asCSV:
		p.csv.Flush()
		if err := p.csv.Error(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	case asTable:
		if err := p.table.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// finish ends what was printed, and joins what went wrong on the way; where only
// that happened, nothing is printed.
func (p *printer[T]) finish(errs ...error) error {
	err := errors.Join(errs...)
	if err != nil && p.count == 0 {
		return err
	}
	return errors.Join(err, p.end())
}

// printAll prints a list of records.
func printAll[T any](a *app, columns []column[T], records []T) error {
	p := newPrinter(a, columns)
	for _, r := range records {
		if err := p.add(r); err != nil {
			return err
		}
	}
	return p.end()
}

// printOne prints the one record that was asked for: JSON has it without an
// array, and in place of a table is what view writes.
func printOne[T any](a *app, columns []column[T], record T, view func(*details)) error {
	switch a.output {
	case asTable:
		d := &details{newTable(a.stdout)}
		view(d)
		if err := d.w.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	case asJSON:
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(record); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	default:
		return printAll(a, columns, []T{record})
	}
}

// details is one record for a person: a line for each thing that is set.
type details struct{ w *tabwriter.Writer }

func (d *details) row(name, value string) {
	if value != "" {
		_, _ = fmt.Fprintf(d.w, "%s\t%s\n", printable(name), printable(value))
	}
}

func (d *details) at(name string, t time.Time) {
	if !t.IsZero() {
		d.row(name, t.Format(time.RFC3339))
	}
}

// text writes a line, or several, as they are.
func (d *details) text(text string) {
	for line := range strings.Lines(text) {
		_, _ = fmt.Fprintln(d.w, printable(strings.TrimSuffix(line, "\n")))
	}
}

func marshal(record any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(record); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// fields are those of a record's JSON.
type fields map[string]json.RawMessage

func fieldsOf(record any) (fields, error) {
	text, err := marshal(record)
	if err != nil {
		return nil, err
	}
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return f, nil
}

// at returns the value of a field, or of a field of it: "source.size". A field
// that is left out is nil.
func (f fields) at(path string) json.RawMessage {
	if v, ok := f[path]; ok {
		return v
	}
	outer, inner, ok := strings.Cut(path, ".")
	var below fields
	if !ok || json.Unmarshal(f[outer], &below) != nil {
		return nil
	}
	return below.at(inner)
}

// exact is a value for a program: texts without quotes, lists and objects as JSON.
func exact(v json.RawMessage) string {
	var text string
	switch {
	case len(v) == 0, string(v) == "null":
		return ""
	case json.Unmarshal(v, &text) == nil:
		return text
	default:
		return string(v)
	}
}

// cellText is a value for a person: texts without quotes and control characters,
// lists with commas, fractions to three decimals.
func cellText(v json.RawMessage) string {
	var list []string
	switch text := exact(v); {
	case text == "":
		return "-"
	case v[0] == '[' && json.Unmarshal(v, &list) == nil:
		return printable(strings.Join(list, ","))
	case v[0] != '"' && strings.ContainsAny(text, ".e"):
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return strconv.FormatFloat(f, 'f', 3, 64)
		}
		return printable(text)
	default:
		return printable(text)
	}
}

// printable is text that leaves a terminal as it is, whoever wrote it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// timeText is when something was, none if it never was.
func timeText(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.Format(time.RFC3339)
}

// object is a record whose fields are known when it is there: a row of a report.
type object struct {
	names  []string
	values []json.RawMessage
}

// MarshalJSON keeps the order of the fields.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := marshal(name)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(o.values[i])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// outcome is what was done to something that is named.
type outcome struct {
	Name   string `json:"name"`
	Result string `json:"result"`
}

func outcomeColumns() []column[outcome] { return []column[outcome]{{field: "name"}, {field: "result"}} }

func (a *app) outcomes() *printer[outcome] {
	return newLines(a, outcomeColumns(), func(o outcome) string { return o.Name + " " + o.Result })
}

// done tells of the one thing that was done.
func (a *app) done(name, result string) error {
	p := a.outcomes()
	if err := p.add(outcome{name, result}); err != nil {
		return err
	}
	return p.end()
}
