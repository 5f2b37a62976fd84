package config

import (
	"strings"
	"testing"
)

func TestWebhookProblems(t *testing.T) {
	t.Parallel()
	const good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	well := Webhook{Name: "a", Tenant: "films", URL: "https://pipeline.example.com/hooks", Secret: good, Events: []string{"upload.failed"}}
	change := func(f func(*Webhook)) Webhook { w := well; f(&w); return w }
	for want, w := range map[string]Webhook{
		"":                           well,
		"webhooks[0].name":           change(func(w *Webhook) { w.Name = "" }),
		"webhooks[0].tenant":         change(func(w *Webhook) { w.Tenant = "a b" }),
		"webhooks[0].url":            change(func(w *Webhook) { w.URL = "ftp://x" }),
		"has credentials":            change(func(w *Webhook) { w.URL = "https://u:p@x" }),
		"without TLS":                change(func(w *Webhook) { w.URL = "http://x" }),
		"webhooks[0].events":         change(func(w *Webhook) { w.Events = []string{"completed"} }),
		"webhooks[0].secret: is mis": change(func(w *Webhook) { w.Secret = "" }),
		"webhooks[0].secret: is not": change(func(w *Webhook) { w.Secret = "whsec_c2hvcnQ=" }),
		"webhooks[0].old_secret":     change(func(w *Webhook) { w.OldSecret = "hidden" }),
		"webhooks[0].allow_networks": change(func(w *Webhook) { w.AllowNetworks = []string{"x"} }),
	} {
		var p problemList
		p.webhooks([]Webhook{w})
		switch {
		case want == "" && len(p.errs) > 0:
			t.Errorf("well: %v", p.errs)
		case want != "" && (len(p.errs) != 1 || !strings.Contains(p.errs[0].Error(), want) || strings.Contains(p.errs[0].Error(), "hidden")):
			t.Errorf("%v, want one with %q", p.errs, want)
		}
	}
	var p problemList
	if p.webhooks([]Webhook{well, well}); len(p.errs) != 1 || !strings.Contains(p.errs[0].Error(), "webhooks[1].name") {
		t.Errorf("twice: %v", p.errs)
	}
	rotating := change(func(w *Webhook) { w.OldSecret = "old" })
	if s := rotating.Secrets(); len(s) != 2 || s[0] != good || len(well.Secrets()) != 1 {
		t.Errorf("%d secrets sign", len(s))
	}
}
