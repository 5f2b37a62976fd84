package access_test

import (
	"encoding/hex"
	"testing"
	"time"

	"mediaferry/internal/access"
)

func TestTokensDiffer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	seen := map[string]bool{}
	for range 100 {
		token, text, hash, err := access.New(access.Token{Name: "n", Scopes: []access.Scope{access.Read}, ExpiresAt: now.Add(time.Hour)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) != len("mf_")+43 || text[:len(token.Prefix)] != token.Prefix || len(token.Prefix) > 9 {
			t.Errorf("%q begins with %q", text, token.Prefix)
		}
		if hex.EncodeToString(hash) != hex.EncodeToString(access.Hash(text)) || seen[text] {
			t.Error("not the digest of the token, or made twice")
		}
		seen[text] = true
		if !token.Live(now) || token.Live(now.Add(time.Hour)) {
			t.Error("does not live for an hour")
		}
	}
}

// Nothing is allowed to whoever brings no token.
func TestNoToken(t *testing.T) {
	t.Parallel()
	nobody := access.FromContext(t.Context())
	for _, scope := range access.Scopes() {
		if nobody.Has(scope) {
			t.Errorf("allowed to %s", scope)
		}
		if anyone := access.Anyone(); !anyone.Has(scope) || !anyone.Allows("films") {
			t.Errorf("anyone is not allowed to %s", scope)
		}
	}
}
