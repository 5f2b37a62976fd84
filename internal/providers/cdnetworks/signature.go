package cdnetworks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// scheme is one of the platform's two signatures of the same computation.
type scheme string

const (
	schemeWS3 scheme = "ws3" // of the video service's own host
	schemeCNC scheme = "cnc" // of the newer API gateway
)

// signedHeaders are the two that the platform demands, in their order.
const signedHeaders = "content-type;host"

// formType is what calls of the control API are encoded as; it is signed as it is sent.
const formType = "application/x-www-form-urlencoded; charset=utf-8"

func (s scheme) label() string {
	if s == schemeCNC {
		return "CNC-HMAC-SHA256"
	}
	return "WS3-HMAC-SHA256"
}

// canonical is what a signature is of.
type canonical struct {
	method, path, query, contentType, host string
	payload                                []byte
}

// sign returns the signature in hex. The secret is the key itself; the platform
// derives none. Values of headers are signed in lower case.
func (c canonical) sign(s scheme, key providers.Secret, timestamp string) string {
	request := strings.Join([]string{
		c.method, c.path, c.query,
		"content-type:" + strings.ToLower(c.contentType),
		"host:" + strings.ToLower(c.host),
		"", // each header ends in a line break of its own
		signedHeaders, hexSHA256(c.payload),
	}, "\n")
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	_, _ = mac.Write([]byte(s.label() + "\n" + timestamp + "\n" + hexSHA256([]byte(request)))) // a hash never returns an error
	return hex.EncodeToString(mac.Sum(nil))
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// sign puts the account's signature on a POST of the control API. The
// platform takes a timestamp that is off by five minutes at most.
func (t target) sign(req *http.Request, payload []byte, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	c := canonical{method: req.Method, path: req.URL.Path, contentType: formType, host: req.URL.Host, payload: payload}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Authorization", t.scheme.label()+" Credential="+t.accessKey+
		", SignedHeaders="+signedHeaders+", Signature="+c.sign(t.scheme, t.secretKey, timestamp))
	if t.scheme == schemeCNC {
		req.Header.Set("X-Cnc-Accesskey", t.accessKey)
		req.Header.Set("X-Cnc-Timestamp", timestamp)
		req.Header.Set("X-Cnc-Auth-Method", "AKSK")
		return
	}
	req.Header.Set("X-Ws-Accesskey", t.accessKey)
	req.Header.Set("X-Ws-Timestamp", timestamp)
}
