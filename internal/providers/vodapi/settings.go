package vodapi

import (
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
)

// The settings that the part uploads have in common.
const (
	SettingEndpoint = "endpoint"
	SettingPath     = "path"
	SettingStyle    = "param_style"
)

// ReadTarget reads where an account's calls go, with defaults filled in.
func ReadTarget(r *settings.Reader, given map[string]string) Target {
	t := Target{Endpoint: DefaultEndpoint, Path: DefaultPath, Style: StyleDocumented}
	if value, ok := given[SettingEndpoint]; ok {
		t.Endpoint = r.Origin("settings.endpoint", value, DefaultEndpoint)
	}
	if value, ok := given[SettingStyle]; ok {
		t.Style = settings.OneOf(r, "settings.param_style", value, StyleDocumented, StyleSDK)
	}
	if value, ok := given[SettingPath]; ok {
		t.Path = value
		if !strings.HasPrefix(value, "/") || strings.ContainsAny(value, "?#%") {
			r.Bad("settings.path", "is %q; give a path such as %s", value, DefaultPath)
		}
	}
	return t
}

// ReadKey reads the key pair that signs an account's calls.
func ReadKey(r *settings.Reader, secrets map[string]providers.Secret) (id string, key providers.Secret) {
	pair := r.Secrets(secrets,
		settings.Secret{Name: "secret_id", Words: "the account's SecretId"},
		settings.Secret{Name: "secret_key", Words: "the account's SecretKey"})
	return pair[0].Reveal(), pair[1]
}
