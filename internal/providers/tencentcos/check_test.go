package tencentcos

import (
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.VODApplyConfig{})
	for _, api := range []string{"v2", "3.0"} {
		account := with(account, "api", api)
		evidence, err := client.CheckCredentials(t.Context(), account)
		if err != nil || !strings.Contains(evidence, "no such session") {
			t.Errorf("%s: got %q, %v", api, evidence, err)
		}
		account.Secrets = map[string]providers.Secret{"secret_id": dummyID, "secret_key": "not-the-secret"}
		_, err = client.CheckCredentials(t.Context(), account)
		if providers.KindOf(err) != providers.Unauthorized || strings.Contains(err.Error(), "not-the-secret") {
			t.Errorf("%s: a wrong secret gave %v", api, err)
		}
	}
}
