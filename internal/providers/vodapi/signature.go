package vodapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the platform signs with HMAC-SHA1 unless told otherwise
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Algorithm is how requests are signed, by the platform's names.
type Algorithm string

// The algorithms.
const (
	HmacSHA1   Algorithm = "HmacSHA1"
	HmacSHA256 Algorithm = "HmacSHA256"
)

// Params are the parameters of a call, values as they are meant, without any
// escapes. Names are plain ASCII.
type Params map[string]string

// Signature returns that of a call under version 2 of the platform's API: of
// method, host, path and parameters, in whose names an underscore counts as a
// dot. The body is not signed.
func (p Params) Signature(method, host, path string, with Algorithm, key string) string {
	mac := hmac.New(sha1.New, []byte(key))
	if with == HmacSHA256 {
		mac = hmac.New(sha256.New, []byte(key))
	}
	dotted := func(name string) string { return strings.ReplaceAll(name, "_", ".") }
	plain := func(value string) string { return value }
	_, _ = mac.Write([]byte(method + host + path + "?" + p.join(dotted, plain))) // a hash never returns an error
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Query returns the parameters as they travel.
func (p Params) Query() string {
	return p.join(func(name string) string { return name }, Escape)
}

// join lists the parameters in the order of their names' bytes.
func (p Params) join(name, value func(string) string) string {
	pairs := make([]string, 0, len(p))
	for _, n := range slices.Sorted(maps.Keys(p)) {
		pairs = append(pairs, name(n)+"="+value(p[n]))
	}
	return strings.Join(pairs, "&")
}

// Escape is percent-encoding that leaves letters, digits and -_.~ as they are,
// with %20 for a space: the platform decodes no "+".
func Escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

// Nonce returns a positive number of 31 bits, since the platform documents no
// width. One that comes up twice is refused and costs a try.
func Nonce() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.BigEndian.Uint32(b[:])>>1, 1)
}

// Flag returns a truth as the platform writes it.
func Flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}
