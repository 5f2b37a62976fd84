package config

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"strings"
)

// sources are the files of this package. What a setting means is said once,
// beside its field; --help and the reference read it there.
//
//go:embed *.go
var sources embed.FS

// comments is what the sources say of a struct and of its fields, by the names
// that Go has for them.
type comments struct {
	intro  string
	fields map[string]string
}

// readComments reads all of them. The files are those that this was built from, so
// they can be parsed; tests would find that one cannot.
func readComments() map[string]comments {
	all := map[string]comments{}
	entries, err := sources.ReadDir(".")
	if err != nil {
		return all
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := sources.ReadFile(name)
		if err != nil {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				continue
			}
			for _, spec := range d.Specs {
				t, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if s, ok := t.Type.(*ast.StructType); ok {
					all[t.Name.Name] = comments{intro: sentence(t.Name.Name, d.Doc), fields: fieldComments(s)}
				}
			}
		}
	}
	return all
}

func fieldComments(s *ast.StructType) map[string]string {
	said := map[string]string{}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			text := f.Doc
			if text == nil {
				text = f.Comment
			}
			said[name.Name] = sentence(name.Name, text)
		}
	}
	return said
}

// sentence makes of a comment what a reader wants who does not see the name that
// it begins with: "Slots is how many" becomes "How many".
func sentence(name string, group *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(group.Text()), " ")
	for _, verb := range []string{" is ", " are ", " ", ", "} {
		if rest, ok := strings.CutPrefix(text, name+verb); ok {
			text = rest
			break
		}
	}
	if first := regexp.MustCompile(`^[a-z]+\b`).FindString(text); first != "" && !strings.HasPrefix(text[len(first):], ":") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if text != "" && !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// meanings returns what the settings of a struct mean, by their keys.
func meanings(t reflect.Type) map[string]string {
	return collectMeanings("", t, readComments())
}

func collectMeanings(prefix string, t reflect.Type, said map[string]comments) map[string]string {
	all := map[string]string{}
	for f := range t.Fields() {
		switch key := prefix + yamlName(f); {
		case yamlName(f) == "-":
		case f.Type.Kind() == reflect.Struct:
			maps.Copy(all, collectMeanings(key+".", f.Type, said))
		case isList(f.Type):
			all[key] = said[t.Name()].fields[f.Name]
			maps.Copy(all, collectMeanings(key+"[].", f.Type.Elem(), said))
		default:
			all[key] = said[t.Name()].fields[f.Name]
		}
	}
	return all
}
