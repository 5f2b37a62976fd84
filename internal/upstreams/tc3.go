package upstreams

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func tc3MAC(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
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
	k := tc3MAC([]byte("TC3"+key), a.date)
	k = tc3MAC(k, a.service)
	k = tc3MAC(k, "tc3_request")
	return hex.EncodeToString(tc3MAC(k, text)), nil
}
