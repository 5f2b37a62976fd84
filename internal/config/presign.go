package config

import (
	"net/url"
	"strings"

	"mediaferry/internal/uploads"
)

// Presign is where files go that callers put into staging themselves, by URLs
// that the API makes for them.
type Presign struct {
	// Bucket is where the files go; empty for no such URLs.
	Bucket string `yaml:"bucket,omitempty"`
	// Endpoint is the URL of staging as callers reach it; staging.endpoint if empty.
	Endpoint string `yaml:"endpoint,omitempty"`
}

func (p *problemList) presign(s Presign, staging Staging) {
	if s == (Presign{}) {
		return
	}
	if s.Bucket == "" {
		p.add("presign.bucket", "is missing; name the bucket that files are put into, or leave presign out")
	} else if err := uploads.CheckBucket(s.Bucket); err != nil {
		p.add("presign.bucket", "%v", err)
	}
	if staging.AccessKey == "" {
		p.add("presign.bucket", "needs staging.access_key and staging.secret_key to sign with; give both, with the right to put objects into it")
	}
	if s.Endpoint == "" {
		return
	}
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.User != nil {
		p.add("presign.endpoint", "is not a store's URL; give http:// or https://, host and port alone")
	}
}
