package deploy_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schema is as much of a JSON schema as the chart's has.
type schema struct {
	Properties map[string]*schema `json:"properties"`
	Items      *schema            `json:"items"`
}

// The chart refuses what its schema does not know, so it knows every setting that
// has no place of its own among the values. `make helm` tests the rest of it.
func TestChartTakesEverySetting(t *testing.T) {
	t.Parallel()
	var values schema
	if err := json.Unmarshal([]byte(read(t, "helm/mediaferry/values.schema.json")), &values); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{ // in Secrets, or made by the chart from values
		"seal_key", "old_seal_keys", "stop_grace", "postgres.dsn", "id", "pool", "slots", "stall_timeout", "health.listen", "metrics.listen",
		"api.listen", "api.auth", "api.cert_file", "api.key_file",
		"nats.user", "nats.password", "nats.token", "staging.access_key", "staging.secret_key",
	}
	shared := regexp.MustCompile(`^(nats|staging|log|tracing)\.`)
	rows := regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|").FindAllStringSubmatch(read(t, "../docs/configuration.md"), -1)
	if len(rows) < 50 {
		t.Fatalf("%d settings", len(rows))
	}
	for _, row := range rows {
		key := row[1]
		if slices.Contains(elsewhere, key) {
			continue
		}
		at := &values
		if !shared.MatchString(key) {
			at = values.Properties["dispatcher"].Properties["settings"]
		}
		for name := range strings.SplitSeq(key, ".") {
			name, isList := strings.CutSuffix(name, "[]")
			if at = at.Properties[name]; at == nil {
				t.Errorf("values.schema.json has no %s", key)
				break
			}
			if isList {
				at = at.Items
			}
		}
	}
}
