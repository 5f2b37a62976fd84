package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/access"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// follow opens a stream of the tenant, and returns when it has begun or is refused.
func follow(t *testing.T, base, tenant string) (status int, problem problem, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(wire.TenantHeader, tenant)
	req.Close = true
	res, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	leave = func() { cancel(); _ = res.Body.Close() }
	t.Cleanup(leave)
	body := bufio.NewReader(res.Body)
	if res.StatusCode != http.StatusOK {
		if err := json.NewDecoder(body).Decode(&problem); err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("Retry-After") == "" {
			t.Errorf("%d does not say when to come again", res.StatusCode)
		}
	} else if _, err := body.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, problem, leave
}

// One tenant cannot keep the others from following: it has half of the places, and
// the next one half of the rest.
func TestATenantLeavesPlacesForOthers(t *testing.T) {
	t.Parallel()
	_, base := setup(t)
	var last func()
	for _, step := range []struct {
		tenant string
		open   int
	}{{"films", 32}, {"news", 16}, {"sports", 8}} {
		for range step.open {
			status, _, leave := follow(t, base, step.tenant)
			if status != http.StatusOK {
				t.Fatalf("a stream of %s: %d", step.tenant, status)
			}
			last = leave
		}
		status, told, _ := follow(t, base, step.tenant)
		if status != http.StatusTooManyRequests || !strings.Contains(told.Detail, step.tenant) || !strings.Contains(told.Detail, "ask another dispatcher") {
			t.Fatalf("one more of %s: %d %s", step.tenant, status, told.Detail)
		}
	}
	last()
	for status := 0; status != http.StatusOK; { // as soon as the server has seen that it is gone
		status, _, _ = follow(t, base, "sports")
	}
}

// A token that is revoked while its stream is open is shown nothing more.
func TestAStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	tokens, uc := &apitest.Tokens{}, &apitest.UseCases{Moves: make(chan uploads.StateChange)}
	uc.Tokens = tokens
	base := apitest.Start(t, uc)
	token, text := tokens.Make(t, "default", access.Read)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", bearer(text))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	body := bufio.NewReader(res.Body)
	sees := func(number int64) bool {
		uc.Moves <- uploads.StateChange{Number: number, To: uploads.Completed}
		for {
			line, err := body.ReadString('\n')
			if err != nil {
				return false
			}
			if strings.HasPrefix(line, "data: ") {
				return true
			}
		}
	}
	if !sees(1) {
		t.Fatal("nothing is shown to a token that is good")
	}
	if err := tokens.RevokeToken(t.Context(), "", token.ID); err != nil {
		t.Fatal(err)
	}
	number := int64(2)
	for end := time.Now().Add(20 * time.Second); sees(number); number++ { // what is remembered of it is soon too old
		if time.Now().After(end) {
			t.Fatal("the stream goes on without its token")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Who asks only for the head of a stream has its connection back.
func TestTheHeadOfAStreamEnds(t *testing.T) {
	t.Parallel()
	_, base := setup(t)
	only := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	t.Cleanup(only.CloseIdleConnections)
	for _, call := range []struct{ method, path string }{{http.MethodHead, "/v1/events"}, {http.MethodGet, "/livez"}} {
		req, err := http.NewRequestWithContext(t.Context(), call.method, base+call.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := only.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode >= 300 {
			t.Errorf("%s %s: %d, %v", call.method, call.path, res.StatusCode, err)
		}
	}
}
