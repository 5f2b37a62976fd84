package upstreams

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the protocol signs with HMAC-SHA1 unless told otherwise
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Actions of the server-side part upload. Each request is signed on its own,
// under version 2 of the platform's API.
const (
	ActionServerInit   = "InitUpload"
	ActionServerPart   = "UploadPart"
	ActionServerFinish = "FinishUpload"
	ActionReport       = "Report" // not documented; vendors' clients end with it
)

// codeReplay is the API's code for a nonce that came before, or a clock that is off.
const codeReplay = 4500

// vendorHost is what the vendor's clients sign for, wherever they send it.
const vendorHost = "vod2.qcloud.com"

// Bounds of a signed request.
const (
	vodClockSkew = 2 * time.Hour
	// millisecondsFrom is the least Timestamp that is read as milliseconds; in
	// seconds it lies in the year 5138.
	millisecondsFrom = 100_000_000_000
	maxFileName      = 40 // bytes
)

func serverSide(action string) bool {
	switch action {
	case ActionServerInit, ActionServerPart, ActionServerFinish, ActionReport:
		return true
	}
	return false
}

// authenticateServer checks the common parameters, the signature and what
// InitUpload says of the file.
func (v *VOD) authenticateServer(c *vodCall) (vodAnswer, bool) {
	query, err := parseVODQuery(c.rawQuery)
	if err != nil {
		return vodRefusal(codeCommon, 0, "%v", err), false
	}
	c.query = query
	sha := query.Get("fileSha")
	c.File = strings.ToLower(sha)
	needed := []string{"SecretId", "Timestamp", "Nonce", "Signature"}
	if v.config.Strict {
		needed = append(needed, "Region")
	}
	for _, name := range needed {
		if query.Get(name) == "" {
			return vodRefusal(codeCommon, 0, "%s is missing", name), false
		}
	}
	stamp, terr := strconv.ParseInt(query.Get("Timestamp"), 10, 64)
	nonce, nerr := strconv.ParseUint(query.Get("Nonce"), 10, 64)
	if terr != nil || nerr != nil || nonce == 0 {
		return vodRefusal(codeCommon, 0, "Timestamp %q or Nonce %q is not a positive number", query.Get("Timestamp"), query.Get("Nonce")), false
	}
	if err := v.verifyRequest(c); err != nil {
		return vodRefusal(codeSignature, 0, "%v", err), false
	}
	c.Account = query.Get("SecretId")
	if !v.config.Strict && stamp >= millisecondsFrom {
		stamp /= 1000
	}
	now := time.Now()
	if skew := now.Sub(time.Unix(stamp, 0)); skew.Abs() > vodClockSkew {
		return vodRefusal(codeReplay, 0, "Timestamp is %s off", skew.Round(time.Second)), false
	}
	if v.config.Strict && !v.firstUse(vodNonce{c.Account, nonce}, now) {
		return vodRefusal(codeReplay, 0, "Nonce %d was used before", nonce), false
	}
	if c.Action != ActionReport {
		if refused, ok := v.checkFile(c, sha); !ok {
			return refused, false
		}
	}
	if c.Action == ActionServerInit {
		if err := checkServerInit(query); err != nil {
			return vodRefusal(codeProtocol, 0, "%v", err), false
		}
	}
	return v.checkMethod(c)
}

// parseVODQuery reads the parameters of a signed request. Values are escaped by
// percent or not at all: a plus is a plus. No name may come twice, since either
// of the two could be the one that was signed.
func parseVODQuery(raw string) (url.Values, error) {
	query := make(url.Values)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(name)
		if err != nil {
			return nil, fmt.Errorf("a name cannot be read: %w", err)
		}
		if value, err = url.PathUnescape(value); err != nil {
			return nil, fmt.Errorf("parameter %q cannot be read: %w", name, err)
		}
		if query.Has(name) {
			return nil, fmt.Errorf("parameter %q comes twice", name)
		}
		query.Set(name, value)
	}
	return query, nil
}

// verifyRequest checks the signature. The signed host is the one that the call
// came to or, unless strict, the vendor's own.
func (v *VOD) verifyRequest(c *vodCall) error {
	id := c.query.Get("SecretId")
	key, ok := v.config.Keys[id]
	if !ok {
		return fmt.Errorf("SecretId %q is not known", id)
	}
	hosts := []string{c.host}
	if !v.config.Strict {
		hosts = append(hosts, vendorHost)
	}
	for _, host := range hosts {
		if hmac.Equal([]byte(signVODRequest(c.Method, host, c.path, c.query, key)), []byte(c.query.Get("Signature"))) {
			return nil
		}
	}
	return fmt.Errorf("the signature is wrong for SecretId %q", id)
}

// signVODRequest returns the signature of a request's method, host, path and
// parameters. These are sorted by name, with values unescaped, and a dot stands
// for each underscore in a name except a leading one.
func signVODRequest(method, host, path string, query url.Values, key string) string {
	var b strings.Builder
	b.WriteString(method + host + path)
	separator := byte('?')
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if name == "Signature" {
			continue
		}
		b.WriteByte(separator)
		separator = '&'
		if name != "" {
			b.WriteString(name[:1] + strings.ReplaceAll(name[1:], "_", "."))
		}
		b.WriteString("=" + query.Get(name))
	}
	mac := hmac.New(sha1.New, []byte(key))
	if query.Get("SignatureMethod") == "HmacSHA256" {
		mac = hmac.New(sha256.New, []byte(key))
	}
	_, _ = mac.Write([]byte(b.String())) // a hash never returns an error
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// checkServerInit checks what InitUpload says of the file; its sizes are
// checked where those of InitUploadEx are.
func checkServerInit(query url.Values) error {
	name := query.Get("fileName")
	if !vodName(name) {
		return fmt.Errorf("fileName %q is not 1 to %d bytes without forbidden characters", name, maxFileName)
	}
	if query.Get("fileType") == "" {
		return fmt.Errorf("fileType of %q is missing", name)
	}
	for _, flag := range []string{"isTranscode", "isScreenshot", "isWatermark"} {
		if value := query.Get(flag); value != "" && value != "0" && value != "1" {
			return fmt.Errorf("%s is %q, neither 0 nor 1", flag, value)
		}
	}
	return nil
}

// vodNonce is what no two requests may share while their clock is in bounds.
type vodNonce struct {
	account string
	nonce   uint64
}

// vodNonces holds the nonces that came within the bounds of the clock, in two
// generations. The younger takes the older's place once no call within those
// bounds can repeat a nonce of the older.
type vodNonces struct {
	since          time.Time // the younger began
	younger, older map[vodNonce]bool
}

// firstUse notes the nonce and reports whether it is new.
func (v *VOD) firstUse(n vodNonce, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.nonces.firstUse(n, now)
}

func (s *vodNonces) firstUse(n vodNonce, now time.Time) bool {
	if now.Sub(s.since) > 2*vodClockSkew {
		*s = vodNonces{since: now, younger: make(map[vodNonce]bool), older: s.younger}
	}
	if s.younger[n] || s.older[n] {
		return false
	}
	s.younger[n] = true
	return true
}
