package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

// What is in docs/configuration.md is what the code reads; `make generate`
// writes it. A provider's page has every setting that the provider takes.
func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	rules := service.AccountRules(service.Providers())
	if err := config.Reference(&out, rules); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, out.Bytes()) {
		t.Error("docs/configuration.md is out of date; run: make generate")
	}
	names := regexp.MustCompile("`[a-z0-9_]+`")
	for _, provider := range rules.Providers {
		page, err := os.ReadFile("../../docs/providers/" + provider + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		_, row, _ := strings.Cut(out.String(), "](providers/"+provider+".md)")
		row, _, _ = strings.Cut(row, "\n")
		found := names.FindAllString(row, -1)
		if len(found) < 3 {
			t.Errorf("%s: the reference names %v", provider, found)
		}
		for _, name := range found {
			if name = strings.Trim(name, "`"); !strings.Contains(string(page), name) {
				t.Errorf("docs/providers/%s.md says nothing of %s", provider, name)
			}
		}
	}
}

func TestSettingsCommand(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), []string{"settings"}, func(string) string { return "" }, &out, io.Discard)
	if err != nil || !strings.Contains(out.String(), "`nats.url`") {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
}
