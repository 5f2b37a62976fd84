package upstreams

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the protocol signs with HMAC-SHA1
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// applyV2Signature returns the signature of API v2 over the parameters, whose
// names have their underscores turned into dots: "POSThost/path?a=b&…".
func applyV2Signature(key, method, host, path string, params url.Values) string {
	return plainSignature(key, method+host+path+"?", params, func(name string) string {
		if strings.HasPrefix(name, "_") {
			return "_" + strings.ReplaceAll(name[1:], "_", ".")
		}
		return strings.ReplaceAll(name, "_", ".")
	})
}

// applyV1Signature returns the older signature of API 3.0.
func applyV1Signature(key, method, host, path string, params url.Values) string {
	return plainSignature(key, method+host+path+"?", params, func(name string) string { return name })
}

func plainSignature(key, prefix string, params url.Values, rename func(string) string) string {
	pairs := make([]string, 0, len(params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != "Signature" {
			pairs = append(pairs, rename(name)+"="+params.Get(name))
		}
	}
	algorithm := sha1.New
	if params.Get("SignatureMethod") == "HmacSHA256" {
		algorithm = sha256.New
	}
	return base64.StdEncoding.EncodeToString(applyMAC(algorithm, []byte(key), prefix+strings.Join(pairs, "&")))
}

func applyMAC(algorithm func() hash.Hash, key []byte, text string) []byte {
	h := hmac.New(algorithm, key)
	_, _ = h.Write([]byte(text)) // a hash never returns an error
	return h.Sum(nil)
}

// tc3 is an authorization of API 3.0.
type tc3 struct {
	secretID  string
	date      string
	service   string
	headers   []string
	signature string
}

// parseTC3 reads "TC3-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseTC3(text string) (tc3, error) {
	rest, ok := strings.CutPrefix(text, "TC3-HMAC-SHA256 ")
	if !ok {
		return tc3{}, errors.New("the authorization is not TC3-HMAC-SHA256")
	}
	fields := make(map[string]string)
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	credential := strings.Split(fields["Credential"], "/")
	if len(credential) != 4 || credential[3] != "tc3_request" {
		return tc3{}, fmt.Errorf("credential %q is not id/date/service/tc3_request", fields["Credential"])
	}
	a := tc3{
		secretID: credential[0], date: credential[1], service: credential[2],
		headers: strings.Split(strings.ToLower(fields["SignedHeaders"]), ";"), signature: fields["Signature"],
	}
	if !slices.Contains(a.headers, "host") || !slices.Contains(a.headers, "content-type") || a.signature == "" {
		return tc3{}, errors.New("host and content-type must be signed")
	}
	return a, nil
}

// expected returns the signature that key makes for the request.
func (a tc3) expected(key string, r *http.Request, body []byte, timestamp int64) (string, error) {
	if want := time.Unix(timestamp, 0).UTC().Format("2006-01-02"); a.date != want {
		return "", fmt.Errorf("the credential's date is %s, that of the timestamp %s", a.date, want)
	}
	var headers strings.Builder
	for _, name := range a.headers {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	hashed := sha256.Sum256(body)
	canonical := sha256.Sum256([]byte(strings.Join([]string{
		r.Method, "/", r.URL.RawQuery, headers.String(), strings.Join(a.headers, ";"), hex.EncodeToString(hashed[:]),
	}, "\n")))
	scope := a.date + "/" + a.service + "/tc3_request"
	text := strings.Join([]string{"TC3-HMAC-SHA256", strconv.FormatInt(timestamp, 10), scope, hex.EncodeToString(canonical[:])}, "\n")
	k := applyMAC(sha256.New, []byte("TC3"+key), a.date)
	k = applyMAC(sha256.New, k, a.service)
	k = applyMAC(sha256.New, k, "tc3_request")
	return hex.EncodeToString(applyMAC(sha256.New, k, text)), nil
}
