package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"mediaferry/internal/access"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// Tokens is where tokens are kept; the store of the record meets it. Missing
// ones are access.ErrUnknown.
type Tokens interface {
	AddToken(ctx context.Context, t access.Token, hash []byte) error
	TokenByHash(ctx context.Context, hash []byte) (access.Token, error)
	Tokens(ctx context.Context, tenant string) ([]access.Token, error)
	RevokeToken(ctx context.Context, tenant string, id uuid.UUID) error
}

const (
	// tokenAge is how long an answer of the record about a token is good, and so
	// how long a revoked one may still be taken.
	tokenAge = 3 * time.Second
	// maxRemembered bounds the answers that are kept, of tokens that do not exist
	// among them.
	maxRemembered = 4096
	maxTokenText  = 256 // characters; longer ones are none of ours

	open access.Scope = "" // for everybody: they tell nothing of uploads
)

// scopes is what each route asks of a token. A route that is not here asks for
// admin, and fails the tests.
func scopes() map[string]access.Scope {
	return map[string]access.Scope{
		"GET /livez":                   open,
		"GET /readyz":                  open,
		"GET /startupz":                open,
		"GET /openapi.json":            open,
		"GET /openapi.yaml":            open,
		"GET /openapi-3.0.json":        open,
		"GET /openapi-3.0.yaml":        open,
		"GET /schemas/{schema}":        open,
		"GET /{$}":                     open,
		"GET /ui/":                     open, // frames without data
		"GET /docs":                    open, // what /openapi.json says
		"GET /ui/sign-in":              open,
		"POST /ui/sign-in":             open,
		"POST /ui/sign-out":            open,
		"POST /v1/uploads":             access.Submit,
		"POST /v1/uploads/prefix":      access.Submit,
		"POST /v1/uploads/bulk":        access.Submit,
		"GET /v1/uploads":              access.Read,
		"GET /v1/uploads/{id}":         access.Read,
		"GET /v1/uploads/{id}/digests": access.Read,
		"GET /v1/uploads/{id}/explain": access.Read,
		"GET /v1/workers":              access.Read,
		"GET /v1/overview":             access.Read,
		"GET /v1/uploads/{id}/parts":   access.Read,
		"GET /v1/uploads/{id}/history": access.Read,
		"GET /v1/failures":             access.Read,
		"GET /v1/access":               access.Read,
		"GET /v1/accounts":             access.Read,

		"POST /v1/uploads/{id}/pause":     access.Operate,
		"POST /v1/uploads/{id}/resume":    access.Operate,
		"POST /v1/uploads/{id}/cancel":    access.Operate,
		"POST /v1/uploads/{id}/retry":     access.Operate,
		"POST /v1/uploads/pause":          access.Operate,
		"POST /v1/uploads/resume":         access.Operate,
		"POST /v1/uploads/cancel":         access.Operate,
		"POST /v1/uploads/retry":          access.Operate,
		"POST /v1/accounts/{name}/pause":  access.Operate,
		"POST /v1/accounts/{name}/resume": access.Operate,
		"POST /v1/accounts/{name}/check":  access.Operate,
		"POST /v1/tenants/{name}/pause":   access.Operate,
		"POST /v1/tenants/{name}/resume":  access.Operate,

		"GET /v1/reports":        access.Read,
		"GET /v1/reports/{name}": access.Read,

		"POST /v1/batches":     access.Submit,
		"GET /v1/batches":      access.Read,
		"GET /v1/batches/{id}": access.Read,

		"POST /v1/staging/presign": access.Submit,
		"GET /v1/events":           access.Read,

		"POST /v1/reconcile":                access.Operate,
		"GET /v1/setaside":                  access.Operate,
		"GET /v1/setaside/{number}":         access.Operate,
		"DELETE /v1/setaside/{number}":      access.Operate,
		"POST /v1/setaside/{number}/replay": access.Operate,

		"GET /v1/webhooks":                access.Read,
		"POST /v1/webhooks/{name}/test":   access.Operate,
		"POST /v1/webhooks/{name}/enable": access.Operate,
		"POST /v1/webhooks/{name}/replay": access.Operate,

		"POST /v1/tokens":        access.Admin,
		"GET /v1/tokens":         access.Admin,
		"DELETE /v1/tokens/{id}": access.Admin,
	}
}

// ofAllTenants reports whether the route shows what belongs to no tenant or to
// all, which a token that is bound to one must not see.
func ofAllTenants(pattern string) bool {
	_, path, _ := strings.Cut(pattern, " ")
	return strings.HasPrefix(path, "/v1/setaside") || strings.HasPrefix(path, "/v1/reports")
}

const maxDrained = 4 << 20 // bytes of a refused body that are still read

// guard lets requests through to the routes of mux that their token allows.
type guard struct {
	mux    *http.ServeMux
	scopes map[string]access.Scope
	tokens *tokenCache // nil where anybody may do anything
	sites  *http.CrossOriginProtection
	log    *zap.Logger
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A caller that is still sending when the answer comes may see a broken
	// connection in place of it.
	defer func() { _, _ = io.CopyN(io.Discard, r.Body, maxDrained) }()
	if g.sites.Check(r) != nil {
		writeProblem(w, huma.Error403Forbidden("a page of another site sent this; use the pages here, or a client that is no browser"))
		return
	}
	handler, pattern := g.mux.Handler(r)
	if pattern == "" {
		noRoute(w, r, handler)
		return
	}
	need, known := g.scopes[pattern]
	if !known {
		need = access.Admin
	}
	if need == open {
		g.mux.ServeHTTP(w, r)
		return
	}
	token, problem := g.authenticate(r)
	switch {
	case problem != nil:
	case !token.Has(need):
		problem = huma.Error403Forbidden("the token does not allow this; it takes one with the scope " + string(need))
	case token.Tenant != "" && ofAllTenants(pattern):
		problem = huma.Error403Forbidden("the token is bound to a tenant; this takes one for all tenants")
	case !g.settleTenant(r, pattern, token):
		problem = huma.Error404NotFound("there is no such tenant")
	}
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	g.mux.ServeHTTP(w, r.WithContext(access.WithToken(r.Context(), token)))
}

// authenticate returns the live token of a request, or what to answer.
func (g *guard) authenticate(r *http.Request) (access.Token, error) {
	if g.tokens == nil {
		return access.Anyone(), nil
	}
	if session := sessionToken(r); session != "" && r.Header.Get("Authorization") == "" {
		return g.tokenOf(r.Context(), session)
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	text = strings.TrimSpace(text)
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		return access.Token{}, unauthorized("a token is missing; give it as Authorization: Bearer TOKEN")
	}
	return g.tokenOf(r.Context(), text)
}

// tokenOf returns the live token of which this is the text, or what to answer.
func (g *guard) tokenOf(ctx context.Context, text string) (access.Token, error) {
	if len(text) > maxTokenText {
		return access.Token{}, unauthorized("the token is not known here")
	}
	token, err := g.tokens.find(ctx, text)
	switch {
	case errors.Is(err, access.ErrUnknown):
		return access.Token{}, unauthorized("the token is not known here")
	case err != nil:
		g.log.Warn("cannot look up a token", zap.Error(err))
		if e, ok := errors.AsType[*uploads.UnavailableError](err); ok {
			return access.Token{}, later(e.What + " is not reachable; try again later")
		}
		return access.Token{}, huma.Error500InternalServerError("internal error; the dispatcher's log has the details")
	case !token.Live(time.Now()):
		return access.Token{}, unauthorized("the token is revoked or has expired; ask for another one")
	}
	return token, nil
}

// stillGood reports whether a request that was let in would be again. While that
// cannot be told, it is.
func (g *guard) stillGood(r *http.Request) bool {
	_, err := g.authenticate(r)
	refused, ok := errors.AsType[huma.StatusError](err)
	return !ok || refused.GetStatus() != http.StatusUnauthorized
}

// settleTenant fills in the tenant of a token that is bound to one, and
// reports whether the token is good for the tenant that the request names.
func (g *guard) settleTenant(r *http.Request, pattern string, token access.Token) bool {
	if token.Tenant == "" {
		return true
	}
	// Where a tenant is part of the path it is its third element.
	if _, path, _ := strings.Cut(pattern, " "); strings.HasPrefix(path, "/v1/tenants/") {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/tenants/"), "/")
		if !token.Allows(name) {
			return false
		}
	}
	named := r.Header.Values(wire.TenantHeader)
	if len(named) == 0 {
		r.Header.Set(wire.TenantHeader, token.Tenant)
		return true
	}
	for _, name := range named {
		if !token.Allows(name) {
			return false
		}
	}
	return true
}

func unauthorized(detail string) error {
	return huma.ErrorWithHeaders(huma.Error401Unauthorized(detail), http.Header{"Www-Authenticate": {`Bearer realm="mediaferry"`}})
}

// writeProblem answers with a problem document (RFC 9457).
func writeProblem(w http.ResponseWriter, err error) {
	if h, ok := errors.AsType[huma.HeadersError](err); ok {
		maps.Copy(w.Header(), h.GetHeaders())
	}
	status, ok := errors.AsType[huma.StatusError](err)
	if !ok {
		status = huma.Error500InternalServerError("internal error")
	}
	model, _ := errors.AsType[*huma.ErrorModel](err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status.GetStatus())
	_ = json.NewEncoder(w).Encode(model) // a caller that went away needs no answer
}

// tokenCache remembers for a few seconds what the record says of a token, so
// that a busy caller costs it one look-up in that time.
type tokenCache struct {
	tokens Tokens
	flight singleflight.Group

	mu   sync.Mutex
	seen map[string]seenToken // by digest
}

type seenToken struct {
	token access.Token
	known bool
	at    time.Time
}

func newTokenCache(tokens Tokens) *tokenCache {
	return &tokenCache{tokens: tokens, seen: map[string]seenToken{}}
}

func (c *tokenCache) find(ctx context.Context, text string) (access.Token, error) {
	key := string(access.Hash(text))
	c.mu.Lock()
	entry, ok := c.seen[key]
	c.mu.Unlock()
	if !ok || time.Since(entry.at) > tokenAge {
		// The look-up is shared, so it must not end with the first caller.
		found, err, _ := c.flight.Do(key, func() (any, error) { return c.look(context.WithoutCancel(ctx), key) })
		if err != nil {
			return access.Token{}, err //nolint:wrapcheck // look's own
		}
		entry = found.(seenToken) // look returns no other
	}
	if !entry.known {
		return access.Token{}, access.ErrUnknown
	}
	return entry.token, nil
}

func (c *tokenCache) look(ctx context.Context, key string) (seenToken, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	c.mu.Lock()
	entry, ok := c.seen[key]
	c.mu.Unlock()
	if ok && time.Since(entry.at) <= tokenAge {
		return entry, nil // another caller's look-up ended since this one was found to be due
	}
	entry = seenToken{at: time.Now()}
	token, err := c.tokens.TokenByHash(ctx, []byte(key))
	switch {
	case err == nil:
		entry.token, entry.known = token, true
	case !errors.Is(err, access.ErrUnknown):
		return seenToken{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) >= maxRemembered {
		clear(c.seen)
	}
	c.seen[key] = entry
	return entry, nil
}

// forget makes this process take note of a revocation at once.
func (c *tokenCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.seen)
}
