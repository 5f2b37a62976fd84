package config

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Whoever adds a setting says what it means.
func TestEverySettingHasAMeaning(t *testing.T) {
	t.Parallel()
	for _, of := range []reflect.Type{reflect.TypeFor[Dispatcher](), reflect.TypeFor[Worker]()} {
		said := meanings(of)
		if len(said) < 10 {
			t.Errorf("%s: %d settings", of, len(said))
		}
		for key, meaning := range said {
			if meaning == "" {
				t.Errorf("%s: %s has no comment", of, key)
			}
		}
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	rules := AccountRules{
		Providers: []string{"fake"},
		Check: func(_ string, a providers.Account) error {
			var errs []error
			for name := range a.Settings {
				errs = append(errs, &uploads.FieldError{Field: "settings." + name, Detail: "is not known here; there are home and away_2"})
			}
			for name := range a.Secrets {
				errs = append(errs, &uploads.FieldError{Field: "secrets." + name, Detail: "is not known here; there is key"})
			}
			return errors.Join(append(errs, &uploads.FieldError{Field: "settings.home", Detail: "is missing"})...)
		},
	}
	var out bytes.Buffer
	if err := Reference(&out, rules); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `sweep_interval` | `MEDIAFERRY_SWEEP_INTERVAL` `--sweep_interval` | duration | `2s` | 1s to 1h | The pause between comparisons of ledger and queue. |",
		"| `seal_key` | `MEDIAFERRY_SEAL_KEY` | secret |  |  | Seals ",
		"| `accounts[].window` |  | size | `256MiB` | 32MiB or more | ",
		"| `accounts[].provider` |  | text |  | fake | ",
		"| `webhooks[].events` |  | list |  | upload.completed, ",
		"| `slots` | `MEDIAFERRY_SLOTS` `--slots` | number | `16` | 1 to 256 | How many jobs it takes at once. |",
		"| `staging.path_style` | `MEDIAFERRY_STAGING_PATH_STYLE` `--staging.path_style` | true, false | `true` |",
		"| `tracing.sample` | `MEDIAFERRY_TRACING_SAMPLE` `--tracing.sample` | number | `1` | 0 to 1 |",
		"| [`fake`](providers/fake.md) | `home` and `away_2` | `key` |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
}

func TestHelpSaysWhatSettingsMean(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := LoadWorker([]string{"--help"}, nil, &out); !errors.Is(err, ErrPrinted) {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "--slots string How many jobs it takes at once. Also MEDIAFERRY_SLOTS.") {
		t.Errorf("help:\n%s", out.String())
	}
}
