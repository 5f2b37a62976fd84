package api_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"mediaferry/internal/access"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// browser is a client that keeps cookies and follows no redirect.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send sends a form as a page of the site would and returns the answer without its body.
func send(t *testing.T, c *http.Client, method, to string, form url.Values, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return answer{status: res.StatusCode, header: res.Header}
}

func TestPagesAreFramesUnderAStrictPolicy(t *testing.T) {
	t.Parallel()
	_, base := guarded(t)
	for _, path := range []string{"/ui/", "/ui/uploads", "/ui/uploads/0190", "/ui/accounts", "/ui/workers", "/ui/failures", "/ui/sign-in"} {
		a := call(t, "GET", base+path, "")
		csp := a.header.Get("Content-Security-Policy")
		if a.status != http.StatusOK || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, policy %q", path, a.status, csp)
		}
		for _, elsewhere := range []string{"http://", "https://", "<script>", " style=", " onclick="} {
			if strings.Contains(a.body, elsewhere) {
				t.Errorf("%s has %q", path, elsewhere)
			}
		}
	}
	if a := call(t, "GET", base+"/ui/nowhere", ""); a.status != http.StatusNotFound {
		t.Errorf("a page that is not there: %d", a.status)
	}
	style := call(t, "GET", base+"/ui/static/style.css", "")
	if style.status != http.StatusOK || !strings.HasPrefix(style.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style: %d, %q", style.status, style.header.Get("Content-Type"))
	}
	if a := call(t, "GET", base+"/ui/static/style.css", "", "If-None-Match", style.header.Get("ETag")); a.status != http.StatusNotModified {
		t.Errorf("the style, asked for again: %d", a.status)
	}
	if a := call(t, "GET", base+"/ui/static/..%2fweb.go", ""); a.status != http.StatusNotFound {
		t.Errorf("beside the static files: %d", a.status)
	}
}

func TestASessionOfThePages(t *testing.T) {
	t.Parallel()
	tokens, base := guarded(t)
	_, reader := tokens.Make(t, "default", access.Read)
	_, submitter := tokens.Make(t, "default", access.Submit)
	c := browser(t)

	for name, form := range map[string]url.Values{
		"an unknown token": {"token": {"mf_unknown"}}, "none": {"token": {""}}, "one that may not look": {"token": {submitter}},
	} {
		res := send(t, c, "POST", base+"/ui/sign-in", form)
		if res.status != http.StatusUnauthorized && res.status != http.StatusForbidden || res.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: status %d, cookie %q", name, res.status, res.header.Get("Set-Cookie"))
		}
	}
	if res := send(t, c, "GET", base+"/v1/uploads", nil); res.status != http.StatusUnauthorized {
		t.Errorf("before the sign-in: %d", res.status)
	}

	res := send(t, c, "POST", base+"/ui/sign-in", url.Values{"token": {reader}, "next": {"/ui/uploads?state=failed"}}, "X-Forwarded-Proto", "")
	cookie := res.header.Get("Set-Cookie")
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/ui/uploads?state=failed" {
		t.Errorf("sign-in: status %d to %q", res.status, res.header.Get("Location"))
	}
	if !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") || strings.Contains(cookie, "Secure") {
		t.Errorf("the cookie is %q", strings.ReplaceAll(cookie, reader, "TOKEN"))
	}
	if res := send(t, c, "GET", base+"/v1/uploads", nil); res.status != http.StatusOK {
		t.Errorf("after the sign-in: %d", res.status)
	}
	if res := send(t, c, "POST", base+"/v1/uploads/cancel", nil); res.status != http.StatusForbidden {
		t.Errorf("what the token does not allow: %d", res.status)
	}
	send(t, c, "POST", base+"/ui/sign-out", url.Values{})
	if res := send(t, c, "GET", base+"/v1/uploads", nil); res.status != http.StatusUnauthorized {
		t.Errorf("after the sign-out: %d", res.status)
	}

	res = send(t, browser(t), "POST", base+"/ui/sign-in", url.Values{"token": {reader}}, "X-Forwarded-Proto", "https")
	if !strings.Contains(res.header.Get("Set-Cookie"), "Secure") {
		t.Error("behind TLS the cookie is not Secure")
	}
	for _, next := range []string{"https://elsewhere.example/", "//elsewhere.example", "/ui/\\elsewhere", "/v1/uploads", "/ui/sign-in", "/ui/../v1/tokens\r\nX: y"} {
		res := send(t, browser(t), "POST", base+"/ui/sign-in", url.Values{"token": {reader}, "next": {next}})
		if got := res.header.Get("Location"); got != "/ui/" {
			t.Errorf("next %q leads to %q", next, got)
		}
	}
}

// What another site's page sends changes nothing, cookie or not.
func TestOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	uc := &apitest.UseCases{Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "1.mp4", ETag: "e1", Size: 10}}}
	base := apitest.Start(t, uc) // open to everybody, as on a developer's machine
	u := decode[wire.Upload](t, call(t, "POST", base+"/v1/uploads", submission))
	for name, header := range map[string][]string{
		"by fetch metadata": {"Sec-Fetch-Site", "cross-site"}, "by origin": {"Origin", "https://elsewhere.example"}, "from a sandbox": {"Origin", "null"},
		"of another port": {"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"},
	} {
		isProblem(t, name, call(t, "POST", base+"/v1/uploads/"+u.ID+"/cancel", "", header...), http.StatusForbidden)
	}
	if a := call(t, "POST", base+"/v1/uploads/"+u.ID+"/pause", "", "Sec-Fetch-Site", "same-origin"); a.status != http.StatusOK {
		t.Errorf("from a page here: %d %s", a.status, a.body)
	}
}

func TestPicturesOfTheAPI(t *testing.T) {
	t.Parallel()
	tokens, base := guarded(t)
	_, text := tokens.Make(t, "default", access.Read, access.Submit)
	auth := []string{"Authorization", bearer(text)}
	u := decode[wire.Upload](t, call(t, "POST", base+"/v1/uploads", submission, auth...))

	if o := decode[wire.Overview](t, call(t, "GET", base+"/v1/overview", "", auth...)); o.States["queued"] != 1 || o.MovedStep != 10 {
		t.Errorf("overview %+v", o)
	}
	if h := decode[wire.History](t, call(t, "GET", base+"/v1/uploads/"+u.ID+"/history", "", auth...)); len(h.Moves) != 1 || h.Moves[0].To != "queued" {
		t.Errorf("history %+v", h)
	}
	if a := call(t, "GET", base+"/v1/uploads/"+u.ID+"/parts", "", auth...); a.status != http.StatusOK {
		t.Errorf("parts: %d %s", a.status, a.body)
	}
	for _, what := range []string{"parts", "history"} {
		isProblem(t, what, call(t, "GET", base+"/v1/uploads/0190b7a0-0000-7000-8000-000000000000/"+what, "", auth...), http.StatusNotFound)
	}
	if a := decode[wire.Access](t, call(t, "GET", base+"/v1/access", "", auth...)); strings.Join(a.Scopes, " ") != "submit read" || strings.Join(a.Tenants, " ") != "default" {
		t.Errorf("access %+v", a)
	}
	for search, want := range map[string]int{"1.M": 1, "2": 0, "%": 0, "_": 0} {
		if got := decode[wire.UploadList](t, call(t, "GET", base+"/v1/uploads?search="+url.QueryEscape(search), "", auth...)); len(got.Uploads) != want {
			t.Errorf("search for %q found %d", search, len(got.Uploads))
		}
	}
}
