package tencentvod

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the platform signs with HMAC-SHA1 unless told otherwise
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// algorithm is how requests are signed, by the platform's names.
type algorithm string

const (
	hmacSHA1   algorithm = "HmacSHA1"
	hmacSHA256 algorithm = "HmacSHA256"
)

// params are the parameters of a request, values as they are meant, without
// any escapes. No name has an underscore, which the platform would sign as a dot.
type params map[string]string

// signature returns the request's signature under version 2 of the platform's
// API: of method, host, path and parameters. The body is not signed.
func (p params) signature(method, host, path string, with algorithm, key string) string {
	mac := hmac.New(sha1.New, []byte(key))
	if with == hmacSHA256 {
		mac = hmac.New(sha256.New, []byte(key))
	}
	plain := func(value string) string { return value }
	_, _ = mac.Write([]byte(method + host + path + "?" + p.join(plain))) // a hash never returns an error
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// query returns the parameters as they travel.
func (p params) query() string { return p.join(escape) }

// join lists the parameters in the order of their names' bytes, values as
// encode gives them. Names are plain ASCII and need no escapes.
func (p params) join(encode func(string) string) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(p)) {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name + "=" + encode(p[name]))
	}
	return b.String()
}

// escape is percent-encoding with %20 for a space: the platform decodes no "+".
func escape(value string) string {
	return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}
