package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/access"
	"mediaferry/internal/api/web"
)

// The pages are signed in with a token, which then is in a cookie: a page that
// is opened in another tab needs it too, and scripts cannot read it there. It
// comes with requests of other sites' pages as little (SameSite), and if it did
// the guard refuses what they would change.
const (
	sessionCookie = "mediaferry_token"
	// sessionAge ends the session in a browser that is never closed.
	sessionAge = 12 * time.Hour
)

// registerPages serves the pages below /ui/.
func (s *server) registerPages(mux *http.ServeMux, site *web.Site, g *guard) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/ui/", http.StatusFound)
	})
	mux.HandleFunc("GET /ui/", func(w http.ResponseWriter, r *http.Request) { site.Serve(w, r, g.tokens != nil) })
	mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) { site.Docs(w) })
	mux.HandleFunc("GET /ui/sign-in", func(w http.ResponseWriter, r *http.Request) {
		site.SignIn(w, http.StatusOK, r.URL.Query().Get("next"), "")
	})
	mux.HandleFunc("POST /ui/sign-in", func(w http.ResponseWriter, r *http.Request) { g.signIn(w, r, site) })
	mux.HandleFunc("POST /ui/sign-out", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, sessionOf(r, "", -1))
		http.Redirect(w, r, "/ui/sign-in", http.StatusSeeOther)
	})
}

func (g *guard) signIn(w http.ResponseWriter, r *http.Request, site *web.Site) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	text, next := strings.TrimSpace(r.PostFormValue("token")), r.PostFormValue("next")
	if g.tokens == nil {
		http.Redirect(w, r, web.Local(next), http.StatusSeeOther) //nolint:gosec // Local leads nowhere else
		return
	}
	token, err := g.tokenOf(r.Context(), text)
	if err == nil && !token.Has(access.Read) {
		err = huma.Error403Forbidden("the token does not allow looking; it takes one with the scope " + string(access.Read))
	}
	if err != nil {
		status := http.StatusInternalServerError
		if e, ok := errors.AsType[huma.StatusError](err); ok {
			status = e.GetStatus()
		}
		site.SignIn(w, status, next, fmt.Sprintf("That did not work: %s.", err))
		return
	}
	http.SetCookie(w, sessionOf(r, text, int(sessionAge/time.Second)))
	http.Redirect(w, r, web.Local(next), http.StatusSeeOther) //nolint:gosec // Local leads nowhere else
}

// sessionOf is the cookie of a session, for seconds.
func sessionOf(r *http.Request, token string, seconds int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure where it can be
		Name: sessionCookie, Value: token, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Not over plain HTTP, where a browser would drop it.
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}

// sessionToken is the token with which the pages were signed in, "" for none.
func sessionToken(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}
