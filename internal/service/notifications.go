package service

import (
	"mediaferry/internal/config"
	"mediaferry/internal/notifications"
)

// rulesOf is the configured rules as notifications takes them.
func rulesOf(cfg config.Dispatcher) []notifications.Rule {
	tenants := make(map[string]string, len(cfg.Accounts))
	for _, a := range cfg.Accounts {
		tenants[a.Name] = a.Tenant
	}
	rules := make([]notifications.Rule, len(cfg.Notifications))
	for i, n := range cfg.Notifications {
		rules[i] = notifications.Rule{
			Bucket: n.Bucket, Prefix: n.Prefix, Suffix: n.Suffix, Options: n.Options, Labels: n.Labels, Priority: n.Priority,
		}
		for _, name := range n.Accounts {
			rules[i].Targets = append(rules[i].Targets, notifications.Target{Tenant: tenants[name], Account: name})
		}
	}
	return rules
}
