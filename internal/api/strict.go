package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/uploads"
)

// jsonFormat reads bodies as their senders mean them.
func jsonFormat() huma.Format {
	format := huma.DefaultJSONFormat
	format.Unmarshal = func(data []byte, v any) error {
		if _, first := v.(*any); first { // the framework reads it once more, into what it is to be
			if err := checkJSON(data); err != nil {
				return errors.New(strings.TrimPrefix(err.Error(), ": ")) // the framework's words are one text
			}
		}
		return json.Unmarshal(data, v)
	}
	return format
}

// checkJSON finds what a decoder would alter or drop without a word: text that is
// not UTF-8, and a field that is there twice. The error is a *uploads.FieldError;
// what is no JSON at all is left to the decoder.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		at := 0
		for at < len(data) {
			r, n := utf8.DecodeRune(data[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return &uploads.FieldError{Detail: fmt.Sprintf("is not UTF-8 at byte %d; send it as UTF-8", at+1)}
	}
	var open []level // from the outside
	key := false     // the next text is a name
	for at := 0; at < len(data); at++ {
		switch data[at] {
		case '{':
			open, key = append(open, level{object: true}), true
		case '[':
			open, key = append(open, level{}), false
		case '}', ']':
			if len(open) == 0 {
				return nil
			}
			open, key = open[:len(open)-1], false
		case ',':
			key = len(open) > 0 && open[len(open)-1].object
		case '"':
			text := data[at:endOfText(data, at)]
			if at += len(text) - 1; !key {
				continue
			}
			key = false
			if in := &open[len(open)-1]; in.add(text) {
				continue
			}
			var path []string
			for _, l := range open {
				if l.object {
					path = append(path, cut(l.last))
				}
			}
			return &uploads.FieldError{Field: strings.Join(path, "."), Detail: thereTwice}
		}
	}
	return nil
}

// endOfText is where the text ends that begins at a quote, behind its last quote.
func endOfText(data []byte, at int) int {
	for at++; at < len(data); at++ {
		switch data[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return len(data)
}

// level is an object or array that is being read, and the names that an object has.
type level struct {
	object bool
	last   string
	few    []string
	many   map[string]bool // instead, where they are
}

// add notes a name, which is in quotes, and reports whether it is new.
func (l *level) add(quoted []byte) bool {
	const few = 16
	if bytes.IndexByte(quoted, '\\') < 0 && len(quoted) > 1 {
		l.last = string(quoted[1 : len(quoted)-1])
	} else if json.Unmarshal(quoted, &l.last) != nil {
		return true // the decoder tells
	}
	if l.many != nil {
		twice := l.many[l.last]
		l.many[l.last] = true
		return !twice
	}
	if slices.Contains(l.few, l.last) {
		return false
	}
	if l.few = append(l.few, l.last); len(l.few) == few {
		l.many = make(map[string]bool, 2*few)
		for _, name := range l.few {
			l.many[name] = true
		}
	}
	return true
}

const thereTwice = "is there twice; leave one out"

// cut is a name that a caller gave, as long as is told of it.
func cut(name string) string {
	const most = 80 // bytes
	return strings.ToValidUTF8(name[:min(len(name), most)], "")
}

var unknownField = regexp.MustCompile(`^json: unknown field "(.*)"$`)

// readJSON reads one value with no unknown fields and nothing after it. The error
// is a *uploads.FieldError; its field is empty where it is about the whole.
func readJSON(data []byte, v any) error {
	if err := checkJSON(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return &uploads.FieldError{Detail: "has something after the submission; send one JSON object"}
		}
		return nil
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := strings.TrimPrefix(e.Field, "Submission.") // what a line embeds
		if number, ok := strings.CutPrefix(e.Value, "number "); ok {
			return &uploads.FieldError{Field: field, Detail: fmt.Sprintf("is %.40s; give a whole number that is not as large", number)}
		}
		return &uploads.FieldError{Field: field, Detail: fmt.Sprintf("is %s; give %s", article(e.Value), wanted(e.Type))}
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return &uploads.FieldError{Field: cut(m[1]), Detail: remedies()["unexpected property"]}
	}
	detail := "is not JSON: " + err.Error()
	if strings.HasPrefix(err.Error(), "parsing time") || strings.HasPrefix(err.Error(), "Time.UnmarshalJSON") {
		return &uploads.FieldError{Field: "not_before", Detail: "is no time; give one as 2006-01-02T15:04:05Z"}
	}
	return &uploads.FieldError{Detail: detail + "; send a submission as /docs shows"}
}

func article(what string) string {
	if strings.HasPrefix(what, "a") || strings.HasPrefix(what, "o") {
		return "an " + what
	}
	return "a " + what
}

// wanted says what a field of the type is to be.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	default:
		return "an object"
	}
}

// outOfRange is how the decoder says that a number does not fit.
var outOfRange = regexp.MustCompile(`^json: cannot unmarshal number (\S+) into Go struct field \w+\.(\S+) of type (\w+)$`)

// plainly refuses what would be passed over or not be understood: a parameter
// that is given twice, and a body that is packed.
func plainly(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		var wrong []error
		at := ctx.URL()
		for name, values := range at.Query() {
			if len(values) > 1 && name != "label" {
				wrong = append(wrong, &huma.ErrorDetail{
					Location: "query." + cut(name), Message: fmt.Sprintf("is given %d times; give it once, with commas between several values", len(values)),
				})
			}
		}
		// Who is gone needs no answer.
		if packed := ctx.Header("Content-Encoding"); packed != "" && packed != "identity" {
			_ = huma.WriteErr(api, ctx, http.StatusUnsupportedMediaType, "the body is packed", &huma.ErrorDetail{
				Location: "header.Content-Encoding", Message: fmt.Sprintf("is %.40q; send the body as it is, without one", packed),
			})
			return
		}
		if len(wrong) > 0 {
			_ = huma.WriteErr(api, ctx, http.StatusUnprocessableEntity, "the request is not valid", wrong...)
			return
		}
		next(ctx)
	}
}
