package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	yamlv3 "go.yaml.in/yaml/v3"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// envPrefix begins the name of every setting in the environment. A name that
// is no setting is left alone: Kubernetes adds MEDIAFERRY_…_SERVICE_HOST and the
// like for services of that name.
const envPrefix = "MEDIAFERRY_"

// helpWidth is that of the text of --help, in characters.
const helpWidth = 110

// maxSecretFile bounds what is read of a file that a secret refers to, in bytes.
const maxSecretFile = 64 << 10

// ErrPrinted is returned when --help or --print-config was asked for and has
// been written: there is nothing more to do.
var ErrPrinted = errors.New("printed what was asked for")

// AccountRules is what a provider says of accounts.
type AccountRules struct {
	Providers []string // names that an account may give
	// Check says what is wrong with an account's settings and secrets, as joined
	// *uploads.FieldError with fields relative to the account; nil for no checks.
	Check func(provider string, a providers.Account) error
	// CheckMedia says what is wrong with the options of media for the provider,
	// as Check does; nil for no checks.
	CheckMedia func(provider string, m providers.Media) error
}

// LoadDispatcher reads the dispatcher's settings from the arguments after the
// program's name and the environment ("NAME=value"), and from the file that
// --config names. The error joins all problems as *uploads.FieldError, or is
// ErrPrinted; help and the printed settings go to stdout.
func LoadDispatcher(args, environ []string, stdout io.Writer, rules AccountRules) (Dispatcher, error) {
	cfg := dispatcherDefaults()
	more, err := load("dispatcher", args, environ, stdout, &cfg, func() []error {
		for i := range cfg.Accounts {
			cfg.Accounts[i].setDefaults()
		}
		for i := range cfg.Webhooks {
			cfg.Webhooks[i].setDefaults()
		}
		return cfg.problems(rules).errs
	})
	cfg.Warnings, cfg.AskHealth = more.warnings, more.askHealth
	return cfg, err
}

// LoadWorker is LoadDispatcher for a worker.
func LoadWorker(args, environ []string, stdout io.Writer) (Worker, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "worker" // the process id still tells workers of this host apart
	}
	cfg := workerDefaults(host, os.Getpid())
	more, err := load("worker", args, environ, stdout, &cfg, func() []error { return cfg.problems().errs })
	cfg.Warnings, cfg.AskHealth = more.warnings, more.askHealth
	return cfg, err
}

// beside is what load finds beside the settings.
type beside struct {
	warnings  []string // what is unwise and no problem
	askHealth bool     // --health
}

// load fills cfg, which holds the defaults, and then asks check for problems
// of the whole. A field whose value could not be read is not checked: it would
// be reported twice.
func load(program string, args, environ []string, stdout io.Writer, cfg any, check func() []error) (more beside, err error) {
	settings := leaves("", reflect.TypeOf(cfg).Elem())
	flags := newFlags(program, settings, reflect.TypeOf(cfg).Elem(), stdout)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return beside{}, ErrPrinted
		}
		return beside{}, &uploads.FieldError{Field: "flags", Detail: err.Error() + "; --help lists them"}
	}
	if flags.NArg() > 0 {
		return beside{}, &uploads.FieldError{Field: "flags", Detail: fmt.Sprintf("%.40q is not a flag; --help lists them", flags.Arg(0))}
	}

	k := koanf.New(".")
	if path := flags.Lookup("config").Value.String(); path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return beside{}, &uploads.FieldError{Field: "config", Detail: fileProblem(path, err)}
		}
		more.warnings = clearSecrets(k.Raw(), path)
	}
	problems := unknownKeys("", k.Raw(), reflect.TypeOf(cfg).Elem())
	if err := loadOverrides(k, settings, environ, flags); err != nil {
		return beside{}, &uploads.FieldError{Field: "config", Detail: err.Error()}
	}
	problems = append(problems, decode(k, cfg, environ, func(w string) { more.warnings = append(more.warnings, w) })...)
	unread := map[string]bool{}
	for _, p := range problems {
		unread[p.(*uploads.FieldError).Field] = true //nolint:errorlint // all are
	}
	for _, p := range check() {
		if f, ok := errors.AsType[*uploads.FieldError](p); !ok || !unread[f.Field] {
			problems = append(problems, p)
		}
	}

	if len(problems) > 0 {
		return beside{}, errors.Join(problems...)
	}
	if wanted, err := flags.GetBool("print-config"); err == nil && wanted {
		// Only settings that passed: a secret in a field that is none, such as
		// credentials in nats.url, is a problem and would be printed.
		if err := printYAML(stdout, cfg); err != nil {
			return beside{}, err
		}
		return beside{}, ErrPrinted
	}
	more.askHealth, err = flags.GetBool("health")
	if err != nil {
		return beside{}, fmt.Errorf("read the flags: %w", err)
	}
	return more, nil
}

// leaf is a setting that is one value.
type leaf struct {
	key    string // "nats.url"
	secret bool
	isBool bool
}

func (l leaf) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(l.key, ".", "_"))
}

// leaves lists the settings of a config struct, in its order.
func leaves(prefix string, t reflect.Type) []leaf {
	var all []leaf
	for f := range t.Fields() {
		key := prefix + yamlName(f)
		if yamlName(f) == "-" {
			continue
		}
		switch f.Type.Kind() {
		case reflect.Struct:
			all = append(all, leaves(key+".", f.Type)...)
		case reflect.Slice, reflect.Map:
		default:
			all = append(all, leaf{
				key: key, secret: f.Type == reflect.TypeFor[providers.Secret](), isBool: f.Type.Kind() == reflect.Bool,
			})
		}
	}
	return all
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func newFlags(program string, settings []leaf, of reflect.Type, stdout io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet(program, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.SetOutput(stdout)
	flags.Usage = func() {
		said := meanings(of)
		for _, s := range settings {
			if !s.secret {
				flags.Lookup(s.key).Usage = said[s.key] + " Also " + s.env() + "."
			}
		}
		_, _ = fmt.Fprintf(stdout, "Usage: %s [flags]\n\n%s\nSecrets are read from the file or the environment:\n", program, flags.FlagUsagesWrapped(helpWidth))
		for _, s := range settings {
			if s.secret {
				_, _ = fmt.Fprintf(stdout, "      %s (%s)\n", s.env(), s.key)
			}
		}
	}
	flags.String("config", "", "YAML file with the settings")
	flags.Bool("print-config", false, "print the settings without secrets and exit")
	flags.Bool("health", false, "ask the "+program+" that runs here with these settings whether it is ready, and exit with 0 if it is")
	for _, s := range settings {
		if s.secret {
			continue
		}
		flags.String(s.key, "", "")
		if s.isBool {
			flags.Lookup(s.key).NoOptDefVal = "true"
		}
	}
	return flags
}

// loadOverrides lays the environment and then the flags that were given over
// the file.
func loadOverrides(k *koanf.Koanf, settings []leaf, environ []string, flags *pflag.FlagSet) error {
	byEnv := map[string]string{}
	for _, s := range settings {
		byEnv[s.env()] = s.key
	}
	if err := k.Load(env.Provider(".", env.Opt{
		Prefix:        envPrefix,
		TransformFunc: func(name, value string) (string, any) { return byEnv[name], value },
		EnvironFunc:   func() []string { return environ },
	}), nil); err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	given := posflag.ProviderWithFlag(flags, ".", k, func(f *pflag.Flag) (string, any) {
		if !f.Changed || !slices.ContainsFunc(settings, func(s leaf) bool { return s.key == f.Name }) {
			return "", nil
		}
		return f.Name, f.Value.String()
	})
	if err := k.Load(given, nil); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	return nil
}

// unknownKeys finds what the file says and no field takes, as problems.
func unknownKeys(prefix string, raw map[string]any, t reflect.Type) []error {
	known := map[string]reflect.Type{}
	for f := range t.Fields() {
		if yamlName(f) != "-" {
			known[yamlName(f)] = f.Type
		}
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		path := prefix + key
		ft, ok := known[key]
		if !ok {
			problems = append(problems, &uploads.FieldError{
				Field: path, Detail: "is not a setting; check the spelling, or take it out",
			})
			continue
		}
		switch value := raw[key].(type) {
		case map[string]any:
			if ft.Kind() == reflect.Struct {
				problems = append(problems, unknownKeys(path+".", value, ft)...)
			}
		case []any:
			if ft.Kind() != reflect.Slice {
				continue
			}
			for i, item := range value {
				if m, ok := item.(map[string]any); ok {
					problems = append(problems, unknownKeys(fmt.Sprintf("%s[%d].", path, i), m, ft.Elem())...)
				}
			}
		}
	}
	return problems
}

// decode moves the values into cfg. Text becomes what the field is; anything
// else must be of the field's kind already, so that 007 is not read as 7.
func decode(k *koanf.Koanf, cfg any, environ []string, warn func(string)) []error {
	conf := koanf.UnmarshalConf{
		Tag: "yaml",
		DecoderConfig: &mapstructure.DecoderConfig{
			DecodeHook: mapstructure.ComposeDecodeHookFunc(
				secretHook(environ, warn),
				durationHook,
				mapstructure.TextUnmarshallerHookFunc(),
				mapstructure.StringToBasicTypeHookFunc(),
			),
		},
	}
	return decodeProblems(k.UnmarshalWithConf("", cfg, conf))
}

// decodeProblems finds the errors of single fields in the tree that the decoder
// returns. None of them quotes a value, but those of ByteSize and durations,
// which are never secret.
func decodeProblems(err error) []error {
	d, isField := err.(*mapstructure.DecodeError) //nolint:errorlint // walks the tree itself
	if isField {
		if _, nested := errors.AsType[*mapstructure.DecodeError](d.Unwrap()); !nested {
			return []error{&uploads.FieldError{Field: d.Name(), Detail: describe(d.Unwrap())}}
		}
	}
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var all []error
		for _, sub := range e.Unwrap() {
			all = append(all, decodeProblems(sub)...)
		}
		return all
	case interface{ Unwrap() error }:
		return decodeProblems(e.Unwrap())
	default:
		return []error{&uploads.FieldError{Field: "config", Detail: err.Error()}}
	}
}

// describe says what is wrong with a value that could not be read.
func describe(err error) string {
	wrongType, ok := errors.AsType[*mapstructure.UnconvertibleTypeError](err)
	switch {
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		return "cannot be read; give a whole number, or true or false for a switch"
	case !ok:
		return err.Error()
	case wrongType.Expected.Kind() == reflect.String:
		return "is not text; put it in quotes"
	default:
		return fmt.Sprintf("is not of the kind %s; see the documented sample", wrongType.Expected.Kind())
	}
}

// durationHook reads "20s", and says what to write where that fails.
func durationHook(_, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	if !ok || to != reflect.TypeFor[time.Duration]() {
		return value, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%.40q is not a duration; give one such as 20s or 5m", text)
	}
	return d, nil
}

// secretHook finds the value of a secret that is a reference.
func secretHook(environ []string, warn func(string)) mapstructure.DecodeHookFuncType {
	return func(_, to reflect.Type, value any) (any, error) {
		text, ok := value.(string)
		if !ok || to != reflect.TypeFor[providers.Secret]() {
			return value, nil
		}
		getenv := func(name string) string {
			for _, e := range environ {
				if v, ok := strings.CutPrefix(e, name+"="); ok && v != "" {
					return v
				}
			}
			return ""
		}
		return ReadSecret(text, getenv, warn)
	}
}

// ReadSecret returns what `env:NAME` or `file:/path` refers to, or any other
// text itself. warn is told of a file that others can read.
func ReadSecret(text string, getenv func(string) string, warn func(string)) (providers.Secret, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		if v := getenv(name); v != "" {
			return providers.Secret(v), nil
		}
		return "", fmt.Errorf("there is no %q in the environment; set it, or name another one", name)
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		return readSecret(path, warn)
	}
	return providers.Secret(text), nil
}

// IsReference reports whether the text says where a secret is and is not one.
func IsReference(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// clearSecrets finds secrets that stand in the file themselves.
func clearSecrets(raw map[string]any, path string) []string {
	var names []string
	walkSecrets("", raw, reflect.TypeFor[Dispatcher](), func(name string, value any) {
		if text, ok := value.(string); ok && text != "" && !IsReference(text) {
			names = append(names, name)
		}
	})
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s holds secrets in clear (%s); give env:NAME or file:/path in their place", path, strings.Join(names, ", "))}
}

// walkSecrets calls yield with every value of the file that a field of type
// Secret takes. The dispatcher's settings have all secrets of the worker's.
func walkSecrets(prefix string, raw any, t reflect.Type, yield func(name string, value any)) {
	if t == reflect.TypeFor[providers.Secret]() {
		yield(prefix, raw)
		return
	}
	switch value := raw.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			name := strings.TrimPrefix(prefix+"."+key, ".")
			switch t.Kind() {
			case reflect.Map:
				walkSecrets(name, value[key], t.Elem(), yield)
			case reflect.Struct:
				for f := range t.Fields() {
					if yamlName(f) == key {
						walkSecrets(name, value[key], f.Type, yield)
					}
				}
			default:
			}
		}
	case []any:
		if t.Kind() == reflect.Slice {
			for i, item := range value {
				walkSecrets(fmt.Sprintf("%s[%d]", prefix, i), item, t.Elem(), yield)
			}
		}
	}
}

// readSecret returns a file's content without the line end that editors add.
func readSecret(path string, warn func(string)) (providers.Secret, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w; create it, or name another file", err)
	case !info.Mode().IsRegular() || info.Size() > maxSecretFile:
		return "", fmt.Errorf("%s is not a file of at most %d bytes; name another one", path, maxSecretFile)
	}
	if info.Mode().Perm()&0o007 != 0 {
		warn(fmt.Sprintf("%s can be read by everybody on this machine; take that away: chmod o= %s", path, path))
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("%w; make it readable, or name another file", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty; write the secret into it", path)
	}
	return providers.Secret(secret), nil
}

// fileProblem says what is wrong with the file; the parser quotes values, which
// may be secret, so only the lines that it names are kept.
func fileProblem(path string, err error) string {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Error() + "; name another file"
	}
	where := strings.Join(regexp.MustCompile(`line \d+`).FindAllString(err.Error(), -1), ", ")
	if where != "" {
		where = " (" + where + ")"
	}
	return path + " is not a YAML mapping" + where + "; correct it"
}

func printYAML(w io.Writer, cfg any) error {
	enc := yamlv3.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(cfg); err != nil {
		return fmt.Errorf("print the settings: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("print the settings: %w", err)
	}
	return nil
}
