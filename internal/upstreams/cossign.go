package upstreams

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the protocol signs with HMAC-SHA1
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cosSkew is how far the clock of a caller may be off, in seconds.
const cosSkew = 60

// cosAuthorization is a signature of the storage's XML API, from the header or
// from the query.
type cosAuthorization struct {
	secretID   string
	keyTime    string // "<start>;<end>"
	start, end int64  // Unix seconds
	headers    []string
	params     []string
	signature  string
}

// parseCOSAuthorization reads "q-sign-algorithm=sha1&q-ak=…".
func parseCOSAuthorization(text string) (cosAuthorization, error) {
	fields := make(map[string]string)
	for field := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return cosAuthorization{}, fmt.Errorf("authorization has %q, which is no field", field)
		}
		fields[name] = value
	}
	a := cosAuthorization{
		secretID:  fields["q-ak"],
		keyTime:   fields["q-key-time"],
		headers:   cosList(fields["q-header-list"]),
		params:    cosList(fields["q-url-param-list"]),
		signature: fields["q-signature"],
	}
	start, end, ok := strings.Cut(a.keyTime, ";")
	from, ferr := strconv.ParseInt(start, 10, 64)
	until, uerr := strconv.ParseInt(end, 10, 64)
	a.start, a.end = from, until
	switch {
	case fields["q-sign-algorithm"] != "sha1":
		return cosAuthorization{}, fmt.Errorf("algorithm %q is not sha1", fields["q-sign-algorithm"])
	case !ok || ferr != nil || uerr != nil || until <= from:
		return cosAuthorization{}, fmt.Errorf("q-key-time %q is not a time and a later one", a.keyTime)
	case fields["q-sign-time"] != a.keyTime:
		return cosAuthorization{}, errors.New("q-sign-time is not q-key-time")
	case a.secretID == "" || len(a.signature) != 2*sha1.Size:
		return cosAuthorization{}, errors.New("q-ak or q-signature is missing")
	}
	return a, nil
}

func cosList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.ToLower(text), ";")
}

// inForce reports whether the signature's time has come and is not over.
func (a cosAuthorization) inForce(now time.Time) bool {
	return a.start <= now.Unix()+cosSkew && now.Unix() <= a.end
}

// expected returns the signature that key makes for the request, over exactly
// the headers and parameters that the authorization lists.
func (a cosAuthorization) expected(key string, r *http.Request) string {
	query := r.URL.Query()
	params := make(map[string]string, len(query))
	for name, values := range query {
		params[strings.ToLower(cosEscape(name))] = values[0]
	}
	headers := make(map[string]string, len(r.Header)+2)
	for name, values := range r.Header {
		headers[strings.ToLower(cosEscape(name))] = values[0]
	}
	headers["host"] = r.Host
	if headers["content-length"] == "" && r.ContentLength >= 0 {
		headers["content-length"] = strconv.FormatInt(r.ContentLength, 10)
	}
	text := strings.ToLower(r.Method) + "\n" + r.URL.Path + "\n" +
		cosPairs(a.params, params) + "\n" + cosPairs(a.headers, headers) + "\n"
	hashed := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	signKey := cosMAC(key, a.keyTime)
	return cosMAC(signKey, "sha1\n"+a.keyTime+"\n"+hex.EncodeToString(hashed[:])+"\n")
}

// cosPairs joins the named values in the order of their names.
func cosPairs(names []string, values map[string]string) string {
	pairs := make([]string, len(names))
	for i, name := range slices.Sorted(slices.Values(names)) {
		pairs[i] = name + "=" + cosEscape(values[name])
	}
	return strings.Join(pairs, "&")
}

// cosEscape leaves letters, digits and -_.~ as they are.
func cosEscape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func cosMAC(key, text string) string {
	h := hmac.New(sha1.New, []byte(key))
	_, _ = h.Write([]byte(text)) // a hash never returns an error
	return hex.EncodeToString(h.Sum(nil))
}
