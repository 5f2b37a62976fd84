package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
