// Package web is the pages that the dispatcher serves to people. A page is a
// frame without data: its script asks the API for everything, with the rights of
// whoever is signed in, and inserts what it gets as text only. Nothing is loaded
// from other servers; each page's Content-Security-Policy forbids it.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed page.html signin.html docs.html static
var files embed.FS

// policy lets a page load its own script, style and icon, talk to its own
// server, and be in nobody's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Page is a page with a fixed address.
type Page struct {
	Path  string // below /ui/
	Name  string // by which the script knows it
	Title string
}

// Pages lists the pages in the order of the menu.
func Pages() []Page {
	return []Page{
		{"", "overview", "Overview"},
		{"uploads", "uploads", "Uploads"},
		{"accounts", "accounts", "Accounts"},
		{"workers", "workers", "Workers"},
		{"failures", "failures", "Failures"},
	}
}

// Site serves the pages. It holds no state.
type Site struct {
	pages  *template.Template
	static map[string]asset
}

type asset struct {
	body []byte
	tag  string
}

// New returns the site, from files that are built into the binary.
func New() *Site {
	s := &Site{pages: template.Must(template.ParseFS(files, "*.html")), static: make(map[string]asset)}
	for _, name := range []string{"app.js", "theme.js", "style.css", "icon.svg", "docs.js", "docs.css"} {
		body, err := files.ReadFile("static/" + name)
		if err != nil {
			panic(err) // it would not have been built
		}
		sum := sha256.Sum256(body)
		s.static[name] = asset{body, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return s
}

// frame is what page.html is filled with.
type frame struct {
	Menu    []Page
	Current string // name of the page in the menu
	Name    string
	Title   string
	Guarded bool // the API asks for tokens, so there is a session to sign out of
}

// Serve answers GET below /ui/. guarded says that the API asks for tokens.
func (s *Site) Serve(w http.ResponseWriter, r *http.Request, guarded bool) {
	at := strings.Trim(strings.TrimPrefix(r.URL.Path, "/ui/"), "/")
	if name, ok := strings.CutPrefix(at, "static/"); ok {
		s.serveStatic(w, r, name)
		return
	}
	if id, ok := strings.CutPrefix(at, "uploads/"); ok && id != "" && !strings.Contains(id, "/") {
		s.write(w, http.StatusOK, "page.html", frame{Pages(), "uploads", "upload", "Upload", guarded})
		return
	}
	for _, p := range Pages() {
		if p.Path == at {
			s.write(w, http.StatusOK, "page.html", frame{Pages(), p.Name, p.Name, p.Title, guarded})
			return
		}
	}
	s.write(w, http.StatusNotFound, "page.html", frame{Pages(), "", "missing", "No such page", guarded})
}

// Docs answers with the description of the API for people.
func (s *Site) Docs(w http.ResponseWriter) {
	s.write(w, http.StatusOK, "docs.html", frame{Menu: Pages(), Title: "HTTP API"})
}

func (s *Site) serveStatic(w http.ResponseWriter, r *http.Request, name string) {
	a, ok := s.static[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache") // revalidated each time, by its ETag
	w.Header().Set("ETag", a.tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.body))
}

// SignIn answers with the form that asks for a token. next is the page to show
// afterwards; problem says what was wrong with the last token, "" for a first try.
func (s *Site) SignIn(w http.ResponseWriter, status int, next, problem string) {
	s.write(w, status, "signin.html", struct{ Next, Problem string }{Local(next), problem})
}

// Local returns next if it is the path of a page here, else that of the first page.
func Local(next string) string {
	if !strings.HasPrefix(next, "/ui/") || strings.ContainsAny(next, "\\\r\n") || path.Clean(next) == "/ui/sign-in" {
		return "/ui/"
	}
	return next
}

func (s *Site) write(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // the client may be gone
}
