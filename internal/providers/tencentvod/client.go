// Package tencentvod speaks Tencent VOD's server-side part upload: InitUpload,
// UploadPart and FinishUpload, as a dialect of vodapi. Every part follows its MD5,
// which the request's signature covers.
//
// Each request is signed on its own, with a nonce that is valid once. No signature
// outlives its call, so a session does not lapse; it carries the account's key.
// Nothing may send a request of ours twice.
package tencentvod

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/vodapi"
)

// Client is the provider. It holds nothing of an account or an upload.
type Client struct {
	*vodapi.Client[session]
}

var (
	_ providers.Provider       = (*Client)(nil)
	_ providers.AccountChecker = (*Client)(nil)
	_ providers.MediaChecker   = (*Client)(nil)
)

// New returns the provider over the client's transport. Redirects are not
// followed: they would carry the signature to another host.
func New(client *http.Client) *Client {
	return &Client{vodapi.New(client, vodapi.Dialect{
		Init: "InitUpload", Part: "UploadPart", Finish: "FinishUpload",
		Retryable: retryable,
	}, open)}
}

// retryable obeys the answer. Where it does not say, the platform's table of
// codes decides.
func retryable(code int, canRetry *int) bool {
	if canRetry != nil {
		return *canRetry == 1
	}
	switch code {
	case vodapi.CodeCacheWrite, vodapi.CodeCacheRead, vodapi.CodePacket, vodapi.CodeLater, vodapi.CodeInternal, vodapi.CodeRepairs:
		return true
	}
	return false
}

// Limits returns the documented bounds. The platform publishes none for the
// size of a file, the number of parts or the life of an unfinished upload; its
// bound on names is for the part before the extension, and CheckMedia's.
func (c *Client) Limits() providers.Limits {
	limits := vodapi.Limits()
	limits.Calls = map[providers.Call]providers.Rate{
		// Both are InitUpload, which may be called 100 times a minute.
		providers.CallBegin:  {Count: 80, Per: time.Minute},
		providers.CallProbe:  {Count: 20, Per: time.Minute},
		providers.CallPut:    {Count: 10_000, Per: time.Minute},
		providers.CallFinish: {Count: 100, Per: time.Minute},
	}
	return limits
}

// session is the encoding of Session.Data. It holds the key, since every call is
// signed on its own.
type session struct {
	vodapi.Target

	Region    string           `json:"region"`
	Algorithm vodapi.Algorithm `json:"algorithm"`
	SecretID  string           `json:"secret_id"`
	SecretKey string           `json:"secret_key"`
}

// Sign adds the common parameters, and the signature of all parameters.
func (s session) Sign(call vodapi.Signing, params vodapi.Params) (secrets []string) {
	params["SecretId"] = s.SecretID
	params["Timestamp"] = strconv.FormatInt(call.At.Unix(), 10)
	params["Nonce"] = strconv.FormatUint(uint64(call.Nonce), 10)
	params["Region"] = s.Region
	if s.Algorithm != vodapi.HmacSHA1 {
		params["SignatureMethod"] = string(s.Algorithm)
	}
	signature := params.Signature(call.Method, call.Host, call.Path, s.Algorithm, s.SecretKey)
	params["Signature"] = signature
	return []string{s.SecretKey, s.SecretID, signature, url.QueryEscape(signature)}
}

// open makes the session of an upload, and the parameters that say what is
// asked of the platform.
func open(account providers.Account, media providers.Media, sha string) (vodapi.Opening[session], error) {
	s, err := readAccount(account)
	if err != nil {
		return vodapi.Opening[session]{}, err
	}
	o, err := readOptions(media)
	if err != nil {
		return vodapi.Opening[session]{}, err
	}
	s.FileSHA = sha
	return vodapi.Opening[session]{Session: s, Params: o.params(s.Style)}, nil
}
