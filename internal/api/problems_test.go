package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"mediaferry/internal/api"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

// described is what the test reads of the API's description.
type described struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Schema   schema
		}
		RequestBody struct {
			Required bool
			Content  map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Enum       []any
	Format     string
	Maximum    *float64
	MaxLength  *int
	Items      *schema
	Properties map[string]schema
	Required   []string
}

// badInput is a request that must be refused, and the place that must be told.
type badInput struct {
	what, method, path, body, place string
	status                          int
}

// badInputs makes, of each call that is described, every kind of bad input that
// it can be given.
func badInputs(t *testing.T) (all []badInput) {
	t.Helper()
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d described
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for path, calls := range d.Paths {
		filled := strings.NewReplacer("{id}", "0198c5ad-7c11-7000-8000-000000000000", "{number}", "1", "{name}", "main").Replace(path)
		for method, call := range calls {
			method = strings.ToUpper(method)
			add := func(what, path, body, place string, status int) {
				all = append(all, badInput{what, method, path, body, place, status})
			}
			content, takes := call.RequestBody.Content["application/json"]
			good := ""
			if takes {
				s := d.Components.Schemas[strings.TrimPrefix(content.Schema.Ref, "#/components/schemas/")]
				with := func(name string, value any) string {
					raw, err := json.Marshal(d.value(s))
					if err != nil {
						t.Fatal(err)
					}
					var fields map[string]any
					if err := json.Unmarshal(raw, &fields); err != nil {
						t.Fatal(err)
					}
					if name != "" {
						fields[name] = value
					}
					raw, _ = json.Marshal(fields) // was JSON just now
					return string(raw)
				}
				good = with("", nil)
				add("unknown field", filled, with("colour", "red"), "body.colour", 422)
				add("no JSON", filled, "{", "body", 400)
				huge := 300 << 10
				if path == "/v1/batches" {
					huge += 4 << 20
				}
				add("huge body", filled, with("colour", strings.Repeat("x", huge)), "body", 413)
				if call.RequestBody.Required {
					add("absent body", filled, "", "body", 400)
				}
				for _, name := range s.Required {
					var fields map[string]any
					_ = json.Unmarshal([]byte(good), &fields)
					delete(fields, name)
					raw, _ := json.Marshal(fields) // was JSON just now
					add("without "+name, filled, string(raw), "body."+name, 422)
				}
				for name, field := range s.Properties {
					add(name+" of another type", filled, with(name, map[string]any{"a": []int{1}}), "body."+name, 422)
					if len(field.Enum) > 0 {
						add(name+" out of its values", filled, with(name, "nonsense"), "body."+name, 422)
					}
				}
			}
			if strings.Contains(path, "{id}") {
				add("bad id", strings.Replace(path, "{id}", "nonsense", 1), good, "path.id", 422)
			}
			if strings.Contains(path, "{number}") {
				add("bad number", strings.Replace(path, "{number}", "nonsense", 1), good, "path.number", 422)
			}
			add("unknown parameter", filled+"?colour=red", good, "query.colour", 422)
			for _, p := range call.Parameters {
				if p.In != "query" {
					continue
				}
				s := p.Schema
				if s.Items != nil {
					s = *s.Items
				}
				bad := "nonsense"
				switch {
				case s.MaxLength != nil:
					bad = strings.Repeat("x", *s.MaxLength+1)
				case s.Maximum != nil:
					add(p.Name+" too large", filled+"?"+p.Name+"=999999999", good, "query."+p.Name, 422)
				case len(s.Enum) == 0 && s.Format != "uuid" && s.Type == "string":
					continue // any text may be one
				}
				add("bad "+p.Name, filled+"?"+p.Name+"="+bad, good, "query."+p.Name, 422)
			}
		}
	}
	slices.SortFunc(all, func(a, b badInput) int {
		return strings.Compare(a.path+a.method+a.what, b.path+b.method+b.what)
	})
	return all
}

// value is one that the schema takes, with the fields that must be there.
func (d described) value(s schema) any {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	switch kind := fmt.Sprint(s.Type); {
	case strings.Contains(kind, "array"):
		return []any{d.value(*s.Items)}
	case kind == "object":
		fields := map[string]any{}
		for _, name := range s.Required {
			fields[name] = d.value(s.Properties[name])
		}
		return fields
	case kind == "integer":
		return 1
	case kind == "boolean":
		return true
	default:
		return "main"
	}
}

// Whatever is wrong with a request is told as a problem that names the place and
// says something of it, on every route that there is.
func TestEveryRouteTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	uc := &apitest.UseCases{Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "main", Key: "main", ETag: "e", Size: 1}}}
	url := apitest.Start(t, uc)
	inputs := badInputs(t)
	routes := map[string]bool{}
	for _, in := range inputs {
		routes[in.method+" "+in.path] = true
		a := call(t, in.method, url+in.path, in.body)
		what := fmt.Sprintf("%s %s, %s", in.method, in.path, in.what)
		if a.status != in.status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s %.300s, want %d and a problem", what, a.status, a.header.Get("Content-Type"), a.body, in.status)
			continue
		}
		p := decode[problem](t, a)
		if p.Detail == "" || p.Status != in.status {
			t.Errorf("%s: no detail or status in %s", what, a.body)
		}
		named := false
		for _, e := range p.Errors {
			named = named || strings.HasPrefix(e.Location, in.place) && e.Message != ""
			if len(a.body) > 4<<10 {
				t.Errorf("%s: the answer has %d bytes", what, len(a.body))
			}
		}
		if !named {
			t.Errorf("%s: %.400s does not name %s", what, a.body, in.place)
		}
	}
	t.Logf("bad_inputs=%d routes=%d", len(inputs), len(slices.Collect(maps.Keys(routes))))
}

// Where there is no route, or none with that method, it is a problem too.
func TestNoSuchRouteIsAProblem(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	for _, tc := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/v1/nowhere", 404, "/docs"},
		{"GET", "/v1/uploads/x/y/z", 404, "/docs"},
		{"PUT", "/v1/uploads", 405, "GET, HEAD, POST"},
	} {
		a := call(t, tc.method, url+tc.path, "{}")
		if a.status != tc.status || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(decode[problem](t, a).Detail, tc.want) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.status, a.body)
		}
	}
	if a := call(t, "GET", url+"/v1//uploads", ""); a.status != 200 {
		t.Errorf("a path that is led right: %d %s", a.status, a.body)
	}
}
