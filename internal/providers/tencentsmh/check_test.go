package tencentsmh

import (
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{})
	evidence, err := client.CheckCredentials(t.Context(), account)
	if err != nil || !strings.Contains(evidence, "a token until") {
		t.Errorf("got %q, %v", evidence, err)
	}
	if n := countCalls(smh, upstreams.ActionSMHStart); n != 0 {
		t.Errorf("%d uploads were begun", n)
	}
	account.Secrets = map[string]providers.Secret{"library_secret": "not-the-secret"}
	_, err = client.CheckCredentials(t.Context(), account)
	wantKind(t, "check with a wrong secret", err, providers.Unauthorized)
	if strings.Contains(err.Error(), "not-the-secret") {
		t.Errorf("the error tells a secret: %v", err)
	}
}
