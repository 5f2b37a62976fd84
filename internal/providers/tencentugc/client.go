// Package tencentugc speaks Tencent VOD's client-side part upload: InitUploadEx,
// UploadPartEx and FinishUploadEx, as a dialect of vodapi.
//
// One signature is made for an upload and states all that is asked of the
// platform: name, type and options. All calls carry it, so a session lapses with
// it, and a worker needs no key of the account. Every part follows its MD5, and
// the platform checks the SHA-1 of what it assembles, so it accepts no byte that
// is not the object's.
package tencentugc

import (
	"net/http"

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
	c := &Client{}
	c.Client = vodapi.New(client, vodapi.Dialect{
		Init: "InitUploadEx", Part: "UploadPartEx", Finish: "FinishUploadEx",
		Retryable: retryable,
	}, c.open)
	return c
}

// retryable does as the answer says. A missing canRetry means no, except for the
// platform's own errors.
func retryable(code int, canRetry *int) bool {
	return canRetry != nil && *canRetry == 1 || code == vodapi.CodeInternal || code == vodapi.CodeRepairs
}

// Limits returns the documented bounds. The platform publishes none for the
// size of a file, the number of parts or the rate of calls.
func (c *Client) Limits() providers.Limits {
	limits := vodapi.Limits()
	limits.SessionLife = signatureLife
	return limits
}

// session is the encoding of Session.Data.
type session struct {
	vodapi.Target

	Signature string `json:"signature"`

	secretID string // where the session is not read but made
}

// Sign adds the session's signature, by the name that the style has for it.
func (s session) Sign(_ vodapi.Signing, params vodapi.Params) (secrets []string) {
	name := "signature"
	if s.Style == vodapi.StyleSDK {
		name = "Signature"
	}
	params[name] = s.Signature
	return []string{s.Signature, vodapi.Escape(s.Signature), s.secretID}
}

// open makes the session of an upload, which is all that a call needs.
func (c *Client) open(account providers.Account, media providers.Media, sha string) (vodapi.Opening[session], error) {
	t, err := readAccount(account)
	if err != nil {
		return vodapi.Opening[session]{}, err
	}
	if err := c.CheckMedia(media); err != nil {
		return vodapi.Opening[session]{}, err
	}
	o, err := readOptions(media)
	if err != nil {
		return vodapi.Opening[session]{}, err
	}
	now := c.Now()
	g := grant{
		secretID: t.secretID,
		name:     media.Name,
		fileSHA:  sha,
		fileType: o.fileType,
		issued:   now,
		expires:  now.Add(signatureLife),
		random:   c.Nonce(),
		uid:      t.uid,
		options:  o,
	}
	s := session{Target: t.Target, Signature: g.sign(t.secretKey), secretID: t.secretID}
	s.FileSHA = sha
	return vodapi.Opening[session]{Session: s, Expires: g.expires, Params: vodapi.Params{}}, nil
}
