package upstreams

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlScheme is one of the control API's signature schemes, which are the
// same computation under different names.
type controlScheme struct{ label, keyHeader, timeHeader string }

func controlSchemes() []controlScheme {
	return []controlScheme{
		{"WS3-HMAC-SHA256", "X-Ws-Accesskey", "X-Ws-Timestamp"},
		{"CNC-HMAC-SHA256", "X-Cnc-Accesskey", "X-Cnc-Timestamp"},
	}
}

// authorization is the parsed header of that name.
type authorization struct {
	label     string
	key       string
	headers   []string // lower case, as given
	signature string
}

// parseAuthorization reads "<label> Credential=…, SignedHeaders=…, Signature=…",
// with or without blanks after the commas. Of a scoped credential it keeps the key.
func parseAuthorization(text string) (authorization, error) {
	label, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		return authorization{}, errors.New("the Authorization has no fields")
	}
	a := authorization{label: label}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			a.key, _, _ = strings.Cut(value, "/")
		case "SignedHeaders":
			a.headers = strings.Split(strings.ToLower(value), ";")
		case "Signature":
			a.signature = value
		default:
			return authorization{}, fmt.Errorf("the Authorization has a field %q", name)
		}
	}
	if a.key == "" || a.signature == "" {
		return authorization{}, errors.New("the Authorization lacks Credential or Signature")
	}
	return a, nil
}

// verifyControl checks the signature of a call of the control API and returns
// the access key that made it. If lenient it also accepts HTTP Basic, with which
// older clients sign the date.
func verifyControl(r *http.Request, payload []byte, keys map[string]string, now time.Time, lenient bool) (string, error) {
	if user, password, ok := r.BasicAuth(); ok && lenient {
		at, err := http.ParseTime(r.Header.Get("Date"))
		if err != nil || now.Sub(at).Abs() > clockSkew*time.Second {
			return user, fmt.Errorf("date %q is not within %d seconds", r.Header.Get("Date"), clockSkew)
		}
		key, known := keys[user]
		if !known || !hmac.Equal([]byte(password), []byte(basicPassword(key, r.Header.Get("Date")))) {
			return user, fmt.Errorf("the password of %q is wrong", user)
		}
		return user, nil
	}
	a, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	schemes := controlSchemes()
	i := slices.IndexFunc(schemes, func(s controlScheme) bool { return s.label == a.label })
	if i < 0 {
		return a.key, fmt.Errorf("scheme %q is not known", a.label)
	}
	key, known := keys[a.key]
	timestamp := r.Header.Get(schemes[i].timeHeader)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	switch {
	case !known:
		return a.key, fmt.Errorf("access key %q is not known", a.key)
	case r.Header.Get(schemes[i].keyHeader) != a.key:
		return a.key, fmt.Errorf("%s is not the credential", schemes[i].keyHeader)
	case err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > clockSkew*time.Second:
		return a.key, fmt.Errorf("timestamp %q is not within %d seconds", timestamp, clockSkew)
	case !slices.Contains(a.headers, "content-type") || !slices.Contains(a.headers, "host"):
		return a.key, errors.New("content-type and host must be signed")
	}
	if want := controlSignature(a, key, timestamp, r, payload); !hmac.Equal([]byte(want), []byte(a.signature)) {
		return a.key, fmt.Errorf("the signature is wrong for access key %q", a.key)
	}
	return a.key, nil
}

// controlSignature computes the signature of a request as it came in. It covers
// header values in lower case and the query decoded.
func controlSignature(a authorization, key, timestamp string, r *http.Request, payload []byte) string {
	names := slices.Sorted(slices.Values(a.headers))
	var headers strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.ToLower(value) + "\n")
	}
	var query string
	if r.Method == http.MethodGet {
		query = r.URL.RawQuery
		if decoded, err := url.QueryUnescape(query); err == nil {
			query = decoded
		}
		payload = nil
	}
	sum := sha256.Sum256(payload)
	canonical := strings.Join([]string{
		r.Method, r.URL.Path, query, headers.String(), strings.Join(names, ";"), hex.EncodeToString(sum[:]),
	}, "\n")
	sum = sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(a.label + "\n" + timestamp + "\n" + hex.EncodeToString(sum[:]))) // a hash never returns an error
	return hex.EncodeToString(mac.Sum(nil))
}

// basicPassword returns the password that older clients send for a date.
func basicPassword(key, date string) string {
	return base64.StdEncoding.EncodeToString(macOf(key, []byte(date)))
}

// wcsPolicy is what an upload token grants.
type wcsPolicy struct {
	Scope     string      `json:"scope"`    // bucket:key
	Deadline  json.Number `json:"deadline"` // milliseconds since 1970, text or number
	Overwrite int         `json:"overwrite"`
	SizeLimit int64       `json:"fsizeLimit"` // bytes, 0 for none
}

// mintToken returns the upload token of a policy's JSON.
func mintToken(accessKey, secretKey string, policy []byte) string {
	encoded := base64.URLEncoding.EncodeToString(policy)
	return accessKey + ":" + signToken(secretKey, encoded) + ":" + encoded
}

// signToken signs the text: Base64 of the MAC's hex, not of its bytes.
func signToken(secretKey, text string) string {
	return base64.URLEncoding.EncodeToString([]byte(hex.EncodeToString(macOf(secretKey, []byte(text)))))
}

// tokenError is why a token is refused, in the platform's words.
type tokenError string

// Error returns the words.
func (e tokenError) Error() string { return string(e) }

// What may be wrong with a token.
const (
	errNoToken      tokenError = "Authorization Required"
	errTokenFormat  tokenError = "Token Format Invalid"
	errTokenOwner   tokenError = "AK/SK Not Found" //nolint:gosec // the platform's words, no credential
	errTokenSign    tokenError = "Token Invalid"
	errNoDeadline   tokenError = "ExpireTime Is Null"
	errTokenExpired tokenError = "Token Expired"
)

// verifyToken checks an upload token, bare or behind "UpToken ". Its errors are
// of type tokenError.
func verifyToken(text, accessKey, secretKey string, now time.Time) (wcsPolicy, error) {
	text = strings.TrimPrefix(text, "UpToken ")
	if text == "" {
		return wcsPolicy{}, errNoToken
	}
	fields := strings.Split(text, ":")
	if len(fields) != 3 {
		return wcsPolicy{}, errTokenFormat
	}
	if fields[0] != accessKey {
		return wcsPolicy{}, errTokenOwner
	}
	if !hmac.Equal([]byte(fields[1]), []byte(signToken(secretKey, fields[2]))) {
		return wcsPolicy{}, errTokenSign
	}
	policy, err := base64.URLEncoding.DecodeString(fields[2])
	var p wcsPolicy
	switch {
	case err != nil:
		return wcsPolicy{}, errTokenFormat
	case json.Unmarshal(policy, &p) != nil:
		return wcsPolicy{}, errTokenFormat
	}
	deadline, err := p.Deadline.Int64()
	switch {
	case err != nil:
		return wcsPolicy{}, errNoDeadline
	case now.UnixMilli() >= deadline:
		return wcsPolicy{}, errTokenExpired
	}
	return p, nil
}
