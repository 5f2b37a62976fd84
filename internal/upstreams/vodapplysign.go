package upstreams

import (
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authenticateV2 checks the common parameters and the signature of API v2.
func (v *VODApply) authenticateV2(c *applyCall) *applyRefusal {
	params, err := v2Params(c.r, c.body)
	if err != nil {
		return applyRefuse(applyCodeParameter, "InvalidParameter", "%v", err)
	}
	c.params, c.Action, c.Account = params, params.Get("Action"), params.Get("SecretId")
	key, ok := v.config.Keys[c.Account]
	if !ok {
		return applyRefuse(applyCodeSecretID, "AuthFailure", "SecretId %q is not known", c.Account)
	}
	if want := signVODRequest(c.r.Method, c.r.Host, c.r.URL.Path, params, key); !hmac.Equal([]byte(want), []byte(params.Get("Signature"))) {
		return applyRefuse(applyCodeSignature, "AuthFailure", "the signature is not that of the request")
	}
	at, err := strconv.ParseInt(params.Get("Timestamp"), 10, 64)
	if at >= millisecondsFrom && !v.config.Strict {
		at /= 1000
	}
	if off := time.Since(time.Unix(at, 0)).Abs(); err != nil || off > vodClockSkew {
		return applyRefuse(codeReplay, "ReplayAttack", "Timestamp %q is off by %s", params.Get("Timestamp"), off)
	}
	nonce, err := strconv.ParseUint(params.Get("Nonce"), 10, 64)
	if err != nil || nonce == 0 {
		return applyRefuse(applyCodeParameter, "InvalidParameter", "Nonce %q is not a positive number", params.Get("Nonce"))
	}
	if v.config.Strict {
		v.mu.Lock()
		defer v.mu.Unlock()
		if !v.nonces.firstUse(vodNonce{c.Account, nonce}, time.Now()) {
			return applyRefuse(codeReplay, "ReplayAttack", "Nonce %d was used before", nonce)
		}
	}
	return nil
}

// v2Params returns the parameters of API v2: from the query of a GET, or from
// the body of a POST, whose query is ignored.
func v2Params(r *http.Request, body []byte) (url.Values, error) {
	text := string(body)
	switch r.Method {
	case http.MethodGet:
		text = r.URL.RawQuery
	case http.MethodPost:
	default:
		return nil, fmt.Errorf("method %s is neither GET nor POST", r.Method)
	}
	params, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return params, nil
}

// authenticateV3 checks the signature of API 3.0, and renames the parameters
// to those of API v2 where both have them.
func (v *VODApply) authenticateV3(c *applyCall) *applyRefusal {
	if c.r.Header.Get("Authorization") == "" && !v.config.Strict {
		return v.authenticateV1(c)
	}
	a, err := parseTC3(c.r.Header.Get("Authorization"))
	if err != nil {
		return applyRefuse(0, "AuthFailure.InvalidAuthorization", "%v", err)
	}
	c.Action, c.Account = c.r.Header.Get("X-TC-Action"), a.secretID
	key, ok := v.config.Keys[a.secretID]
	if !ok {
		return applyRefuse(0, "AuthFailure.SecretIdNotFound", "SecretId %q is not known", a.secretID)
	}
	at, err := strconv.ParseInt(c.r.Header.Get("X-TC-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > v3ClockSkew {
		return applyRefuse(0, "AuthFailure.SignatureExpire", "X-TC-Timestamp %q is off by more than %s", c.r.Header.Get("X-TC-Timestamp"), v3ClockSkew)
	}
	want, err := a.expected(key, c.r, c.body, at)
	if err != nil || a.service != "vod" || !hmac.Equal([]byte(want), []byte(a.signature)) {
		return applyRefuse(0, "AuthFailure.SignatureFailure", "the signature is not that of the request")
	}
	if version := c.r.Header.Get("X-TC-Version"); version != "2018-07-17" {
		return applyRefuse(0, "NoSuchVersion", "version %q is not known", version)
	}
	if c.params, err = v3Params(c.body); err != nil {
		return applyRefuse(0, "InvalidParameter", "%v", err)
	}
	return v.checkV3(c)
}

// v3Params reads the JSON of a call of API 3.0.
func v3Params(body []byte) (url.Values, error) {
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("body of %d bytes: %w", len(body), err)
	}
	params := make(url.Values, len(fields))
	for name, value := range fields {
		switch value := value.(type) {
		case nil:
		case string:
			params.Set(v2Name(name), value)
		case float64:
			params.Set(v2Name(name), strconv.FormatFloat(value, 'f', -1, 64))
		default:
			return nil, fmt.Errorf("%s is neither text nor a number", name)
		}
	}
	return params, nil
}

// v2Name returns the name that a parameter of API 3.0 has in API v2.
func v2Name(name string) string {
	switch name {
	case "MediaType":
		return "videoType"
	case "MediaName":
		return "videoName"
	case "MediaStoragePath":
		return "videoStoragePath"
	case "":
		return ""
	default:
		return strings.ToLower(name[:1]) + name[1:]
	}
}

// authenticateV1 checks the older signature of API 3.0, over a form: that of
// API v2, since no name has an underscore here.
func (v *VODApply) authenticateV1(c *applyCall) *applyRefusal {
	params, err := v2Params(c.r, c.body)
	if err != nil {
		return applyRefuse(0, "InvalidParameter", "%v", err)
	}
	c.Action, c.Account = params.Get("Action"), params.Get("SecretId")
	key, ok := v.config.Keys[c.Account]
	if !ok {
		return applyRefuse(0, "AuthFailure.SecretIdNotFound", "SecretId %q is not known", c.Account)
	}
	if want := signVODRequest(c.r.Method, c.r.Host, c.r.URL.Path, params, key); !hmac.Equal([]byte(want), []byte(params.Get("Signature"))) {
		return applyRefuse(0, "AuthFailure.SignatureFailure", "the signature is not that of the request")
	}
	at, err := strconv.ParseInt(params.Get("Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > v3ClockSkew {
		return applyRefuse(0, "AuthFailure.SignatureExpire", "Timestamp %q is off by more than %s", params.Get("Timestamp"), v3ClockSkew)
	}
	c.params = make(url.Values)
	for name, values := range params {
		switch name {
		case "Action", "Version", "Region", "Timestamp", "Nonce", "SecretId", "Signature", "SignatureMethod", "RequestClient", "Language", "Token":
		default:
			c.params[v2Name(name)] = values
		}
	}
	return v.checkV3(c)
}

// checkV3 refuses parameters that API 3.0 does not know.
func (v *VODApply) checkV3(c *applyCall) *applyRefusal {
	known := []string{"vodSessionKey", "subAppId"}
	if c.Action == ActionApply {
		known = []string{
			"videoType", "videoName", "coverType", "procedure", "expireTime", "storageRegion", "classId",
			"sourceContext", "sessionContext", "subAppId", "videoStoragePath", "extInfo",
		}
		if v.config.Renews {
			known = append(known, "vodSessionKey")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.params)) {
		if !slices.Contains(known, name) {
			return applyRefuse(0, "UnknownParameter", "%s is not known", name)
		}
	}
	return nil
}
