package tencentcos

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the storage signs with HMAC-SHA1
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers/vodapi"
)

// storageSignatureLife is how long a signature of a storage request is good
// for. A new one is made for every request; the time is for long bodies and
// for clocks that disagree.
const storageSignatureLife = time.Hour

// clockSkew is how far ahead of the platform's clock ours may be.
const clockSkew = time.Minute

func mac(algorithm func() hash.Hash, key []byte, text string) []byte {
	h := hmac.New(algorithm, key)
	_, _ = h.Write([]byte(text)) // a hash never returns an error
	return h.Sum(nil)
}

// signTC3 returns the Authorization of a POST to API 3.0.
func signTC3(secretID string, key string, host, contentType string, body []byte, at time.Time) string {
	hexOf := func(data []byte) string {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	}
	canonical := strings.Join([]string{
		"POST", "/", "", "content-type:" + contentType + "\nhost:" + host + "\n", "content-type;host", hexOf(body),
	}, "\n")
	date := at.UTC().Format("2006-01-02")
	scope := date + "/vod/tc3_request"
	text := strings.Join([]string{"TC3-HMAC-SHA256", strconv.FormatInt(at.Unix(), 10), scope, hexOf([]byte(canonical))}, "\n")
	k := mac(sha256.New, []byte("TC3"+key), date)
	k = mac(sha256.New, k, "vod")
	k = mac(sha256.New, k, "tc3_request")
	return "TC3-HMAC-SHA256 Credential=" + secretID + "/" + scope + ", SignedHeaders=content-type;host, Signature=" +
		hex.EncodeToString(mac(sha256.New, k, text))
}

// storageRequest is what a signature of the storage's XML API covers. Values
// are raw; the names of headers and parameters count in lower case.
type storageRequest struct {
	method  string
	path    string // decoded
	query   map[string]string
	headers map[string]string
}

// sign returns the Authorization of the request, good from start to end.
func (r storageRequest) sign(secretID string, key string, start, end time.Time) string {
	keyTime := strconv.FormatInt(start.Unix(), 10) + ";" + strconv.FormatInt(end.Unix(), 10)
	params, paramList := pairs(r.query)
	headers, headerList := pairs(r.headers)
	hashed := sha1.Sum([]byte(strings.ToLower(r.method) + "\n" + r.path + "\n" + params + "\n" + headers + "\n")) //nolint:gosec // see the import
	signKey := hex.EncodeToString(mac(sha1.New, []byte(key), keyTime))
	signature := mac(sha1.New, []byte(signKey), "sha1\n"+keyTime+"\n"+hex.EncodeToString(hashed[:])+"\n")
	return "q-sign-algorithm=sha1&q-ak=" + secretID + "&q-sign-time=" + keyTime + "&q-key-time=" + keyTime +
		"&q-header-list=" + headerList + "&q-url-param-list=" + paramList + "&q-signature=" + hex.EncodeToString(signature)
}

// pairs returns name=value joined in the order of the names, and the names.
func pairs(values map[string]string) (text, names string) {
	lower := make(map[string]string, len(values))
	for name, value := range values {
		lower[strings.ToLower(vodapi.Escape(name))] = vodapi.Escape(value)
	}
	list := slices.Sorted(maps.Keys(lower))
	joined := make([]string, len(list))
	for i, name := range list {
		joined[i] = name + "=" + lower[name]
	}
	return strings.Join(joined, "&"), strings.Join(list, ";")
}
