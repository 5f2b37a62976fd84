package main

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

// document is a page of Markdown: where it leads, and what can be linked in it.
type document struct {
	links   []string
	anchors []string
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// documents reads all pages of the repository, by their paths below its root.
func documents(t *testing.T) map[string]document {
	t.Helper()
	const root = "../.."
	pages := map[string]document{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			if name := e.Name(); path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		prose := fence.ReplaceAllString(string(text), "")
		var page document
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			page.links = append(page.links, m[1])
		}
		for _, m := range heading.FindAllStringSubmatch(prose, -1) {
			slug := noSlug.ReplaceAllString(strings.ToLower(m[1]), "")
			page.anchors = append(page.anchors, strings.ReplaceAll(slug, " ", "-"))
		}
		pages[filepath.ToSlash(name)] = page
		return nil
	})
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	return pages
}

// Each link leads to a file of the repository and, where it names a heading, to
// one that is there; and whoever begins at the README finds every page.
func TestDocumentsAreLinked(t *testing.T) {
	t.Parallel()
	pages := documents(t)
	found := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if found[name] {
			return
		}
		found[name] = true
		for _, to := range pages[name].links {
			if strings.Contains(to, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(to, "#")
			target := name
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
			}
			at, err := os.Stat(filepath.Join("../..", target))
			if err != nil {
				t.Errorf("%s: there is no %s", name, to)
				continue
			}
			if page, isPage := pages[target]; isPage {
				if anchor != "" && !slices.Contains(page.anchors, anchor) {
					t.Errorf("%s: %s has no heading #%s", name, target, anchor)
				}
				follow(target)
			} else if at.IsDir() { // its pages are listed to whoever opens it
				for under := range pages {
					if filepath.ToSlash(filepath.Dir(under)) == target {
						follow(under)
					}
				}
			}
		}
	}
	follow("README.md")
	for name := range pages {
		if !found[name] {
			t.Errorf("no link leads from README.md to %s", name)
			follow(name)
		}
	}
}

// The line of each provider is taken as it stands.
func TestAccountsOfTheQuickstart(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sample, _ := strings.Cut(string(page), "```yaml\n")
	sample, _, _ = strings.Cut(sample, "```")
	file := filepath.Join(t.TempDir(), "dispatcher.yaml")
	if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"MEDIAFERRY_NATS_URL=nats://127.0.0.1:4222", "MEDIAFERRY_POSTGRES_DSN=postgres://127.0.0.1/mediaferry",
		"MEDIAFERRY_STAGING_ENDPOINT=http://127.0.0.1:7070", "MEDIAFERRY_STAGING_ACCESS_KEY=a", "MEDIAFERRY_STAGING_SECRET_KEY=b",
		"MEDIAFERRY_SEAL_KEY=" + strings.Repeat("00", 32),
	}
	for _, m := range regexp.MustCompile(`env:(\w+)`).FindAllStringSubmatch(sample, -1) {
		env = append(env, m[1]+"=trial")
	}
	known := service.Providers()
	cfg, err := config.LoadDispatcher([]string{"--config", file}, env, io.Discard, service.AccountRules(known))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range cfg.Accounts {
		delete(known, a.Provider)
	}
	if len(known) > 0 {
		t.Errorf("there is no account of %v", slices.Sorted(maps.Keys(known)))
	}
}
