package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mediaferry/internal/access"
	"mediaferry/internal/api"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// guarded serves the API with tokens.
func guarded(t *testing.T) (*apitest.Tokens, string) {
	t.Helper()
	tokens := &apitest.Tokens{}
	uc := &apitest.UseCases{
		Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "1.mp4", ETag: "e1", Size: 10}}, Tokens: tokens,
	}
	return tokens, apitest.Start(t, uc)
}

const submission = `{"account":"main","source":{"bucket":"inbox","key":"1.mp4"}}`

func bearer(token string) string { return "Bearer " + token }

// isProblem checks that an answer is a problem document of the status.
func isProblem(t *testing.T, what string, a answer, status int) {
	t.Helper()
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: status %d, %s, want a problem with %d: %s", what, a.status, a.header.Get("Content-Type"), status, a.body)
		return
	}
	if p := decode[problem](t, a); p.Status != status || p.Detail == "" {
		t.Errorf("%s: problem %+v", what, p)
	}
	if got := a.header.Get("WWW-Authenticate"); (status == http.StatusUnauthorized) != (got != "") {
		t.Errorf("%s: WWW-Authenticate is %q", what, got)
	}
}

func TestWithoutAGoodToken(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	_, good := tokens.Make(t, "default", access.Read)
	if a := call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(good)); a.status != http.StatusOK {
		t.Fatalf("with a good token: %d %s", a.status, a.body)
	}
	for name, header := range map[string]string{
		"empty": "", "another scheme": "Basic " + good, "no scheme": good, "no token": "Bearer ",
		"unknown": "Bearer mf_unknown", "cut short": bearer(good[:len(good)-1]), "its prefix": bearer(good[:9]),
		"endless": bearer(strings.Repeat("a", 10_000)),
	} {
		isProblem(t, name, call(t, "GET", url+"/v1/uploads", "", "Authorization", header), http.StatusUnauthorized)
	}
	isProblem(t, "no header", call(t, "GET", url+"/v1/uploads", ""), http.StatusUnauthorized)
	isProblem(t, "a body before the token", call(t, "POST", url+"/v1/uploads", "{"), http.StatusUnauthorized)
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		if a := call(t, "GET", url+path, ""); a.status != http.StatusNoContent {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := call(t, "GET", url+"/nowhere", ""); a.status != http.StatusNotFound {
		t.Errorf("a path that is not there: %d", a.status)
	}
}

func TestScopesAllowWhatTheySay(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	first := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", submission,
		"Authorization", bearer(second(tokens.Make(t, "default", access.Submit)))))
	one := "/v1/uploads/" + first.ID
	routes := []struct {
		method, path, body string
		need               access.Scope
	}{
		{"POST", "/v1/uploads", submission, access.Submit},
		{"POST", "/v1/uploads/prefix", `{"account":"main","bucket":"inbox","prefix":""}`, access.Submit},
		{"GET", one, "", access.Read},
		{"GET", "/v1/uploads", "", access.Read},
		{"GET", "/v1/accounts", "", access.Read},
		{"GET", "/v1/workers", "", access.Read},
		{"POST", one + "/cancel", "", access.Operate},
		{"POST", one + "/retry", "", access.Operate},
		{"GET", "/v1/tokens", "", access.Admin},
		{"POST", "/v1/tokens", `{"name":"n","tenant":"default","scopes":["read"]}`, access.Admin},
		{"DELETE", "/v1/tokens/" + first.ID, "", access.Admin},
	}
	for _, scope := range access.Scopes() {
		_, token := tokens.Make(t, "default", scope)
		for _, r := range routes {
			a := call(t, r.method, url+r.path, r.body, "Authorization", bearer(token))
			if what := fmt.Sprintf("%s with %s", r.method+" "+r.path, scope); scope == r.need || scope == access.Admin {
				if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
					t.Errorf("%s: %d", what, a.status)
				}
			} else {
				isProblem(t, what, a, http.StatusForbidden)
			}
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestATokenOfOneTenant(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	_, films := tokens.Make(t, "films", access.Submit, access.Read, access.Operate)
	_, operator := tokens.Make(t, "", access.Read, access.Submit)
	mine := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", submission, "Authorization", bearer(films)))
	if mine.Tenant != "films" {
		t.Errorf("submitted for %q", mine.Tenant)
	}
	theirs := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", submission,
		"Authorization", bearer(operator), wire.TenantHeader, "news"))
	if theirs.Tenant != "news" {
		t.Errorf("the operator submitted for %q", theirs.Tenant)
	}
	for what, a := range map[string]answer{
		"another's upload":         call(t, "GET", url+"/v1/uploads/"+theirs.ID, "", "Authorization", bearer(films)),
		"another's, by its tenant": call(t, "GET", url+"/v1/uploads/"+theirs.ID, "", "Authorization", bearer(films), wire.TenantHeader, "news"),
		"cancel another's":         call(t, "POST", url+"/v1/uploads/"+theirs.ID+"/cancel", "", "Authorization", bearer(films)),
		"submit for another":       call(t, "POST", url+"/v1/uploads", submission, "Authorization", bearer(films), wire.TenantHeader, "news"),
		"list another":             call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(films), wire.TenantHeader, "news"),
		"the accounts of another":  call(t, "GET", url+"/v1/accounts", "", "Authorization", bearer(films), wire.TenantHeader, "default"),
	} {
		isProblem(t, what, a, http.StatusNotFound)
	}
	list := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(films)))
	if len(list.Uploads) != 1 || list.Uploads[0].ID != mine.ID {
		t.Errorf("lists %+v", list)
	}
	accounts := decode[wire.AccountList](t, call(t, "GET", url+"/v1/accounts", "", "Authorization", bearer(films)))
	if len(accounts.Accounts) != 0 {
		t.Errorf("sees the accounts of the default tenant: %+v", accounts)
	}
}

// What was set aside belongs to no tenant, so one tenant's operator has no
// business with it.
func TestSetAsideTakesATokenOfAllTenants(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	bound := bearer(second(tokens.Make(t, "default", access.Operate)))
	all := bearer(second(tokens.Make(t, "", access.Operate)))
	for _, route := range []string{"GET /v1/setaside", "GET /v1/setaside/1", "DELETE /v1/setaside/1", "POST /v1/setaside/1/replay"} {
		method, path, _ := strings.Cut(route, " ")
		isProblem(t, route, call(t, method, url+path, "", "Authorization", bound), http.StatusForbidden)
		if a := call(t, method, url+path, "", "Authorization", all); a.status == http.StatusForbidden || a.status == http.StatusUnauthorized {
			t.Errorf("%s for all tenants: %d %s", route, a.status, a.body)
		}
	}
}

func TestTokensOverTheAPI(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	_, admin := tokens.Make(t, "", access.Admin)
	auth := []string{"Authorization", bearer(admin)}
	a := call(t, "POST", url+"/v1/tokens", `{"name":"cutter","tenant":"films","scopes":["read"]}`, auth...)
	if a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	made := decode[wire.NewToken](t, a)
	if !strings.HasPrefix(made.Secret, made.Token.Prefix) || len(made.Secret) < 40 || made.Token.Tenant != "films" {
		t.Errorf("made %+v", made)
	}
	if a := call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(made.Secret)); a.status != http.StatusOK {
		t.Errorf("the new token: %d", a.status)
	}
	if a := call(t, "GET", url+"/v1/tokens", "", auth...); !strings.Contains(a.body, `"cutter"`) || strings.Contains(a.body, made.Secret) {
		t.Errorf("list: %s", a.body)
	}
	for range 2 { // it may be repeated
		if a := call(t, "DELETE", url+"/v1/tokens/"+made.Token.ID, "", auth...); a.status != http.StatusNoContent {
			t.Fatalf("revoke: %d %s", a.status, a.body)
		}
	}
	isProblem(t, "revoked", call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(made.Secret)), http.StatusUnauthorized)
	for what, body := range map[string]string{
		"no tenant":    `{"name":"n","scopes":["read"]}`,
		"both":         `{"name":"n","tenant":"a","all_tenants":true,"scopes":["read"]}`,
		"no scope":     `{"name":"n","tenant":"a","scopes":[]}`,
		"what scope":   `{"name":"n","tenant":"a","scopes":["root"]}`,
		"no name":      `{"name":"","tenant":"a","scopes":["read"]}`,
		"bad tenant":   `{"name":"n","tenant":"a.b","scopes":["read"]}`,
		"expired":      `{"name":"n","tenant":"a","scopes":["read"],"expires_at":"2001-01-01T00:00:00Z"}`,
		"unknown word": `{"name":"n","tenant":"a","scope":["read"],"scopes":["read"]}`,
	} {
		isProblem(t, what, call(t, "POST", url+"/v1/tokens", body, auth...), http.StatusUnprocessableEntity)
	}

	// An admin of one tenant stays within it.
	_, local := tokens.Make(t, "films", access.Admin)
	isProblem(t, "for another tenant", call(t, "POST", url+"/v1/tokens", `{"name":"n","tenant":"news","scopes":["read"]}`,
		"Authorization", bearer(local)), http.StatusUnprocessableEntity)
	isProblem(t, "for all tenants", call(t, "POST", url+"/v1/tokens", `{"name":"n","all_tenants":true,"scopes":["read"]}`,
		"Authorization", bearer(local)), http.StatusUnprocessableEntity)
	news, _ := tokens.Make(t, "news", access.Read)
	isProblem(t, "another tenant's token", call(t, "DELETE", url+"/v1/tokens/"+news.ID.String(), "",
		"Authorization", bearer(local)), http.StatusNotFound)
	if a := call(t, "GET", url+"/v1/tokens", "", "Authorization", bearer(local)); strings.Contains(a.body, news.ID.String()) {
		t.Errorf("lists another tenant's tokens: %s", a.body)
	}
}

// A busy caller costs the record one look in a few seconds, and a token that is
// revoked elsewhere is refused after those.
func TestLookUpsAreRemembered(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	token, text := tokens.Make(t, "default", access.Read)
	get := func() answer { return call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(text)) }
	begun := time.Now()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { get() })
	}
	group.Wait()
	if n, most := tokens.Looks(), 1+int(time.Since(begun)/(3*time.Second)); n > most {
		t.Errorf("%d look-ups for 20 requests, want at most %d", n, most)
	}
	if err := tokens.RevokeToken(t.Context(), "", token.ID); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for get().status != http.StatusUnauthorized {
		if time.Now().After(deadline) {
			t.Fatal("a revoked token is still taken after a minute")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestTheRecordIsAway(t *testing.T) {
	t.Parallel()
	tokens, url := guarded(t)
	_, text := tokens.Make(t, "default", access.Read)
	tokens.Fail(&uploads.UnavailableError{What: "postgres"})
	a := call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(text))
	isProblem(t, "away", a, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	tokens.Fail(nil)
	if a := call(t, "GET", url+"/v1/uploads", "", "Authorization", bearer(text)); a.status != http.StatusOK {
		t.Errorf("back again: %d", a.status)
	}
}

// The description says what each operation asks for.
func TestTheDescriptionNamesScopes(t *testing.T) {
	t.Parallel()
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"securitySchemes"`, `"operate"`, `"401"`, `"403"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in the description", want)
		}
	}
}
