package config

import (
	"fmt"
	"net/netip"
	"net/url"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/webhooks"
)

// Webhook is an endpoint that is told of a tenant's events.
type Webhook struct {
	Name   string `yaml:"name"`   // unique
	Tenant string `yaml:"tenant"` // whose events
	URL    string `yaml:"url"`    // https://, or http:// in allow_networks
	// Events are the types of events to send, all if there are none.
	Events []string `yaml:"events,omitempty"`
	// Secret makes signatures: whsec_ and 24 to 64 bytes in base64.
	Secret providers.Secret `yaml:"secret,omitempty"`
	// OldSecret signs too, while receivers change from it to the new one.
	OldSecret providers.Secret `yaml:"old_secret,omitempty"`
	// AllowNetworks are networks that the address may be in beside public ones,
	// such as 10.0.0.0/8.
	AllowNetworks []string `yaml:"allow_networks,omitempty"`
}

func (w *Webhook) setDefaults() {
	if w.Tenant == "" {
		w.Tenant = "default"
	}
}

// Secrets are those that sign, the present one first.
func (w Webhook) Secrets() []providers.Secret {
	if w.OldSecret == "" {
		return []providers.Secret{w.Secret}
	}
	return []providers.Secret{w.Secret, w.OldSecret}
}

func (p *problemList) webhooks(all []Webhook) {
	seen := map[string]int{}
	for i, w := range all {
		at := fmt.Sprintf("webhooks[%d]", i)
		p.ident(at+".name", w.Name)
		p.ident(at+".tenant", w.Tenant)
		if first, ok := seen[w.Name]; ok && w.Name != "" {
			p.add(at+".name", "%q is also that of webhooks[%d]; give each its own", w.Name, first)
		} else {
			seen[w.Name] = i
		}
		u, err := url.Parse(w.URL)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
			p.add(at+".url", "is not an endpoint's URL; give one like https://pipeline.example.com/hooks")
		case u.User != nil:
			// It would be printed with the settings.
			p.add(at+".url", "has credentials in it; take them out, and check the signature at the endpoint")
		case u.Scheme == "http" && len(w.AllowNetworks) == 0:
			p.add(at+".url", "is without TLS; give https://, or name the endpoint's network in allow_networks")
		}
		for _, event := range w.Events {
			p.oneOf(at+".events", event, uploads.EventTypes()...)
		}
		if w.Secret == "" {
			p.add(at+".secret", "is missing; make one with: echo whsec_$(openssl rand -base64 32)")
		} else if err := webhooks.CheckSecret(w.Secret); err != nil {
			p.add(at+".secret", "%v", err)
		}
		if w.OldSecret != "" {
			if err := webhooks.CheckSecret(w.OldSecret); err != nil {
				p.add(at+".old_secret", "%v", err)
			}
		}
		for _, network := range w.AllowNetworks {
			if _, err := netip.ParsePrefix(network); err != nil {
				p.add(at+".allow_networks", "%.40q is not a network; give one such as 10.0.0.0/8", network)
			}
		}
	}
}
