package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Notification is a rule for what a bucket's store tells of new objects: where
// they are submitted to. An object to which several rules apply goes to every
// account that they name, once, by the first of them that names it.
type Notification struct {
	Bucket   string   `yaml:"bucket"`           // a staging bucket, and no account's
	Prefix   string   `yaml:"prefix,omitempty"` // what the keys begin with, any if empty
	Suffix   string   `yaml:"suffix,omitempty"` // what the keys end with, any if empty
	Accounts []string `yaml:"accounts"`         // one at least
	// Options are the provider's own, for each submission.
	Options  map[string]string `yaml:"options,omitempty"`
	Labels   map[string]string `yaml:"labels,omitempty"`   // of the uploads
	Priority int               `yaml:"priority,omitempty"` // of the uploads; higher goes first
}

func (p *problemList) notifications(d Dispatcher, rules AccountRules) {
	accounts := make(map[string]Account, len(d.Accounts))
	for _, a := range d.Accounts {
		accounts[a.Name] = a
	}
	for i, n := range d.Notifications {
		at := fmt.Sprintf("notifications[%d]", i)
		if err := uploads.CheckBucket(n.Bucket); err != nil {
			p.add(at+".bucket", "%v", err)
		}
		if len(n.Accounts) == 0 {
			p.add(at+".accounts", "is empty; name at least one of the accounts")
		}
		p.between(at+".priority", n.Priority, -uploads.MaxPriority, uploads.MaxPriority)
		seen := map[string]bool{}
		for j, name := range n.Accounts {
			field := fmt.Sprintf("%s.accounts[%d]", at, j)
			a, ok := accounts[name]
			switch {
			case !ok:
				p.add(field, "%q is not one of the accounts; configure it, or mend the name", name)
				continue
			case seen[name]:
				p.add(field, "%q is there twice; leave one out", name)
				continue
			}
			seen[name] = true
			p.submissionOf(at, n, a, rules)
		}
		// Whether the rule or another one sends something there: what arrives at the
		// account would be told of as new, and be sent on, for ever.
		for _, a := range d.Accounts {
			if a.Provider == "s3" && n.Bucket != "" && a.Settings["bucket"] == n.Bucket && sameStore(a.Settings["endpoint"], d.Staging.Endpoint) {
				p.add(at+".bucket", "%q is where account %s puts what is uploaded, so each upload would be followed by another; watch another bucket", n.Bucket, a.Name)
			}
		}
	}
}

// submissionOf checks what the rule would submit to the account, but for the object.
func (p *problemList) submissionOf(at string, n Notification, a Account, rules AccountRules) {
	const name = "media.mp4"
	s := uploads.Submission{
		Tenant: a.Tenant, Account: a.Name, Source: uploads.Object{Bucket: n.Bucket, Key: name},
		Options: n.Options, Labels: n.Labels,
	}
	err := s.Validate()
	if err == nil && rules.CheckMedia != nil {
		err = rules.CheckMedia(a.Provider, providers.Media{Name: name, ContentType: "video/mp4", Size: 1 << 30, PartSize: 16 << 20, Options: n.Options})
	}
	for _, f := range uploads.FieldErrors(err) {
		for _, ours := range []string{"options", "labels"} {
			if f.Field == ours || strings.HasPrefix(f.Field, ours+".") {
				p.add(at+"."+f.Field, "account %s: %s", a.Name, f.Detail)
			}
		}
	}
}

// sameStore reports whether two endpoints are plainly one: the same host and port,
// however they are written. Two names of one address are not known as such.
func sameStore(a, b string) bool {
	one, ok := hostPort(a)
	other, okToo := hostPort(b)
	return ok && okToo && one == other
}

func hostPort(endpoint string) (string, bool) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return "", false
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if address, err := netip.ParseAddr(host); host == "localhost" || err == nil && address.Unmap().IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), true
}
