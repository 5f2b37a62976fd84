package config

import (
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// setting is a row of the reference.
type setting struct {
	key     string // "accounts[].name"
	env     string // "" where only the file has it
	isFlag  bool
	kind    string
	preset  string // the default
	allowed string
	meaning string
}

// Reference writes the reference of all settings in Markdown: what there is, what
// holds by default and what is let through come from the code that reads and
// checks them, what it means from the comments beside the fields.
func Reference(w io.Writer, rules AccountRules) error {
	var b strings.Builder
	b.WriteString(referenceIntro)
	dispatcher := dispatcherSettings(rules)
	worker := workerSettings()

	said := readComments()
	section := func(title, intro string, all []setting, prefix string) {
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		if intro != "" {
			b.WriteString(intro + "\n\n")
		}
		writeTable(&b, all, prefix)
	}
	ofWorker := map[string]bool{}
	for _, g := range groups("", reflect.TypeFor[Worker]()) {
		ofWorker[g.prefix] = true
	}
	both := map[string]bool{}
	section("Dispatcher", "", dispatcher, "")
	for _, g := range groups("", reflect.TypeFor[Dispatcher]()) {
		if both[g.prefix] = ofWorker[g.prefix]; !both[g.prefix] {
			section("Dispatcher: "+g.title, said[g.of].intro, dispatcher, g.prefix)
		}
	}
	section("Worker", "", worker, "")
	for _, g := range groups("", reflect.TypeFor[Worker]()) {
		if !both[g.prefix] {
			section("Worker: "+g.title, said[g.of].intro, worker, g.prefix)
		}
	}
	for _, g := range groups("", reflect.TypeFor[Worker]()) {
		if both[g.prefix] {
			section("Both: "+g.title, said[g.of].intro, worker, g.prefix)
		}
	}

	b.WriteString(providersIntro)
	for _, provider := range rules.Providers {
		fmt.Fprintf(&b, "| [`%s`](providers/%s.md) | %s | %s |\n", provider, provider,
			accepted(rules, provider, "settings"), accepted(rules, provider, "secrets"))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the reference: %w", err)
	}
	return nil
}

const referenceIntro = `# Configuration

Written by ` + "`make generate`" + ` from the code that reads the settings; the same texts are in
` + "`dispatcher --help` and `worker --help`" + `.

A setting comes from the YAML file that ` + "`--config`" + ` names, is overridden by its environment variable and that
by its flag. Lists and maps (accounts, webhooks, notifications and what is in them) come from the file alone. A variable that is
no setting is left alone; a key of the file that is none is an error. Everything that is wrong is reported
together, one line each, and nothing starts.

A *secret* is never a flag. In the file and in the environment it is the value itself or says where it is:
` + "`env:NAME` or `file:/path`" + `. It is read once, at the start.

` + "`--print-config`" + ` prints the settings that hold, without secrets, and exits. Settings are read at the start: to
change one, restart the processes one after another. A *duration* is like ` + "`20s`, `5m` or `1h`" + `; a *size* is a whole
number and a unit, like ` + "`64MiB`, `1GiB` or `500MB`" + `.

Beside these, processes heed ` + "`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`" + ` on the way to platforms, ` + "`OTEL_*`" + ` for
tracing, and ` + "`GOGC` and `GOMEMLIMIT`" + `; where those are not given, GOGC is 400 and a worker's limit follows its slots.
`

const providersIntro = `
## Settings of providers

What an account's ` + "`settings` and `secrets`" + ` may hold. Defaults and meanings are on the providers' pages.

| provider | settings | secrets |
|---|---|---|
`

// accepted asks the provider what it takes, by a name that none has.
func accepted(rules AccountRules, provider, field string) string {
	const nobodys = "?"
	account := providers.Account{Name: "reference"}
	if field == "settings" {
		account.Settings = map[string]string{nobodys: ""}
	} else {
		account.Secrets = map[string]providers.Secret{nobodys: "?"}
	}
	var p problemList
	if rules.Check != nil {
		p.nested("", rules.Check(provider, account))
	}
	for _, err := range p.errs {
		text, ok := strings.CutPrefix(err.Error(), "."+field+"."+nobodys+":")
		if _, names, found := strings.Cut(text, "; there "); ok && found {
			names = strings.TrimPrefix(strings.TrimPrefix(names, "are "), "is ")
			return regexp.MustCompile(`[a-z][a-z0-9_]*[a-z0-9]`).ReplaceAllStringFunc(names, func(name string) string {
				if name == "and" {
					return name
				}
				return "`" + name + "`"
			})
		}
	}
	return ""
}

// group is settings that stand below one key: a struct, or a list of them.
type group struct{ title, prefix, of string }

// groups lists them in the order of their fields.
func groups(prefix string, t reflect.Type) []group {
	var all []group
	for f := range t.Fields() {
		key, of := prefix+yamlName(f), f.Type
		switch {
		case yamlName(f) == "-":
			continue
		case isList(of):
			key, of = key+"[]", of.Elem()
		case of.Kind() != reflect.Struct:
			continue
		}
		all = append(all, group{title: strings.TrimSuffix(key, "[]"), prefix: key + ".", of: of.Name()})
		all = append(all, groups(key+".", of)...)
	}
	return all
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

func dispatcherSettings(rules AccountRules) []setting {
	cfg := dispatcherDefaults()
	// One of each, so that their checks are heard.
	cfg.Accounts, cfg.Webhooks, cfg.Notifications = []Account{{}}, []Webhook{{Events: []string{""}}}, []Notification{{}}
	cfg.Accounts[0].setDefaults()
	cfg.Webhooks[0].setDefaults()
	return describeSettings(cfg, cfg.problems(AccountRules{Providers: rules.Providers}).allowed)
}

func workerSettings() []setting {
	cfg := workerDefaults("host", 1)
	allowed := cfg.problems().allowed
	cfg.ID = ""
	return describeSettings(cfg, allowed)
}

// describeSettings lists what cfg, which holds the defaults, has.
func describeSettings(cfg any, allowed map[string]string) []setting {
	v := reflect.ValueOf(cfg)
	said := meanings(v.Type())
	overridable := map[string]leaf{}
	for _, l := range leaves("", v.Type()) {
		overridable[l.key] = l
	}
	var all []setting
	walkSettings("", v, func(key string, value reflect.Value) {
		s := setting{
			key: key, kind: kindOf(value), preset: presetOf(value), meaning: said[key],
			allowed: allowed[strings.ReplaceAll(key, "[]", "[0]")],
		}
		if l, ok := overridable[key]; ok {
			s.env, s.isFlag = l.env(), !l.secret
		}
		all = append(all, s)
	})
	return all
}

// walkSettings calls yield with every setting; a list of structs is one, and so
// are the fields of its first element.
func walkSettings(prefix string, v reflect.Value, yield func(key string, value reflect.Value)) {
	for i := range v.NumField() {
		name, value := yamlName(v.Type().Field(i)), v.Field(i)
		key := prefix + name
		switch {
		case name == "-":
		case value.Kind() == reflect.Struct:
			walkSettings(key+".", value, yield)
		case isList(value.Type()):
			yield(key, value)
			element := reflect.Zero(value.Type().Elem())
			if value.Len() > 0 {
				element = value.Index(0)
			}
			walkSettings(key+"[].", element, yield)
		default:
			yield(key, value)
		}
	}
}

func kindOf(v reflect.Value) string {
	switch v.Type() {
	case reflect.TypeFor[providers.Secret]():
		return "secret"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[ByteSize]():
		return "size"
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true, false"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "map"
	case reflect.String:
		return "text"
	default:
		return "number"
	}
}

func presetOf(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return short(value)
	case bool:
		return fmt.Sprint(value)
	}
	if v.IsZero() || v.Kind() == reflect.Slice {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// short is a duration without zeros at its end.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// writeTable writes the settings right below the prefix.
func writeTable(b *strings.Builder, all []setting, prefix string) {
	b.WriteString("| setting | variable, flag | kind | default | allowed | meaning |\n|---|---|---|---|---|---|\n")
	code := func(text string) string {
		if text == "" {
			return ""
		}
		return "`" + text + "`"
	}
	for _, s := range all {
		name, ok := strings.CutPrefix(s.key, prefix)
		if !ok || strings.Contains(name, ".") {
			continue
		}
		ways := code(s.env)
		if s.isFlag {
			ways += " " + code("--"+s.key)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", code(s.key), ways, s.kind, code(s.preset), s.allowed, s.meaning)
	}
}
