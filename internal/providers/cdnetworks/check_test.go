package cdnetworks

import (
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{})
	evidence, err := b.client.CheckCredentials(t.Context(), b.account)
	if err != nil || !strings.Contains(evidence, "not listed") {
		t.Errorf("got %q, %v", evidence, err)
	}
	b.account.Secrets = map[string]providers.Secret{"access_key": testKey, "secret_key": "not-the-secret"}
	_, err = b.client.CheckCredentials(t.Context(), b.account)
	wantKind(t, "check with a wrong secret", err, providers.Unauthorized)
	if strings.Contains(err.Error(), "not-the-secret") {
		t.Errorf("the error tells a secret: %v", err)
	}
}
