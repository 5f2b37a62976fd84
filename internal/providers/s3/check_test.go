package s3

import (
	"maps"
	"strings"
	"testing"

	"mediaferry/internal/providers"
)

func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	client, _, account := start(t)
	evidence, err := client.CheckCredentials(t.Context(), account)
	if err != nil || !strings.Contains(evidence, "no such upload") {
		t.Errorf("got %q, %v", evidence, err)
	}
	for name, c := range map[string]struct {
		secrets, settings map[string]string
		want              providers.Kind
	}{
		"wrong secret": {secrets: map[string]string{"secret_key": "not-the-secret"}, want: providers.Unauthorized},
		"unknown key":  {secrets: map[string]string{"access_key": "nobody"}, want: providers.Unauthorized},
		"no bucket":    {settings: map[string]string{"bucket": "nothere"}, want: providers.Rejected},
		"no answer":    {settings: map[string]string{"endpoint": "http://127.0.0.1:1"}, want: providers.Transient},
		"no setting":   {settings: map[string]string{"bucket": ""}, want: providers.Rejected},
	} {
		bad := providers.Account{Name: account.Name, Settings: maps.Clone(account.Settings), Secrets: maps.Clone(account.Secrets)}
		maps.Copy(bad.Settings, c.settings)
		for k, v := range c.secrets {
			bad.Secrets[k] = providers.Secret(v)
		}
		_, err := client.CheckCredentials(t.Context(), bad)
		if err == nil || providers.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		} else if strings.Contains(err.Error(), account.Secrets["secret_key"].Reveal()) || strings.Contains(err.Error(), "not-the-secret") {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
}
