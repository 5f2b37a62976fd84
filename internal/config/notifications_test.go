package config

import (
	"errors"
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

func TestNotificationProblems(t *testing.T) {
	t.Parallel()
	well := Notification{
		Bucket: "staging", Prefix: "films/", Suffix: ".mp4", Accounts: []string{"main", "archive"},
		Options: map[string]string{"good": "x"}, Labels: map[string]string{"show": "one"}, Priority: 10,
	}
	cfg := Dispatcher{
		Staging: Staging{Endpoint: "http://127.0.0.1:9000"},
		Accounts: []Account{
			{Name: "main", Tenant: "films", Provider: "tencentvod"},
			{Name: "archive", Tenant: "films", Provider: "s3", Settings: map[string]string{"endpoint": "http://localhost:9000", "bucket": "archive"}},
			{Name: "far", Tenant: "films", Provider: "s3", Settings: map[string]string{"endpoint": "s3.example.com", "bucket": "staging"}},
		},
	}
	rules := AccountRules{CheckMedia: func(_ string, m providers.Media) error {
		if m.Options["bad"] != "" {
			return errors.Join(&uploads.FieldError{Field: "name", Detail: "of one object"}, &uploads.FieldError{Field: "options.bad", Detail: "is not known"})
		}
		return nil
	}}
	change := func(f func(*Notification)) Notification { n := well; f(&n); return n }
	for want, n := range map[string]Notification{
		"":                                  well,
		"notifications[0].bucket: is mis":   change(func(n *Notification) { n.Bucket = "" }),
		"where account archive puts":        change(func(n *Notification) { n.Bucket = "archive"; n.Accounts = []string{"main"} }),
		"notifications[0].accounts: is emp": change(func(n *Notification) { n.Accounts = nil }),
		"notifications[0].accounts[1]: \"m": change(func(n *Notification) { n.Accounts = []string{"main", "main"} }),
		"notifications[0].accounts[0]: \"x": change(func(n *Notification) { n.Accounts = []string{"x"} }),
		"notifications[0].options.bad: acc": change(func(n *Notification) { n.Accounts = n.Accounts[:1]; n.Options = map[string]string{"bad": "x"} }),
		"notifications[0].labels.":          change(func(n *Notification) { n.Accounts = n.Accounts[:1]; n.Labels = map[string]string{"": "x"} }),
		"notifications[0].priority":         change(func(n *Notification) { n.Priority = 101 }),
	} {
		cfg.Notifications = []Notification{n}
		var p problemList
		p.notifications(cfg, rules)
		switch {
		case want == "" && len(p.errs) > 0:
			t.Errorf("well: %v", p.errs)
		case want != "" && (len(p.errs) != 1 || !strings.Contains(p.errs[0].Error(), want)):
			t.Errorf("%v, want one with %q", p.errs, want)
		}
	}
}

func TestSameStore(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"http://s3:9000", "http://S3.:9000/", true},
		{"https://s3.example.com", "s3.example.com:443", true},
		{"http://s3.example.com", "s3.example.com", false},
		{"http://127.0.0.1:9000", "http://localhost:9000", true},
		{"http://[::1]:9000", "http://127.0.0.2:9000", true},
		{"http://10.0.0.1:9000", "http://10.0.0.1:9001", false},
		{"", "", false},
		{"://", "://", false},
	} {
		if got := sameStore(tc.a, tc.b); got != tc.want {
			t.Errorf("%s and %s: %t", tc.a, tc.b, got)
		}
	}
}
