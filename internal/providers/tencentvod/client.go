// Package tencentvod speaks Tencent VOD's server-side part upload: InitUpload,
// UploadPart and FinishUpload.
//
// The platform knows an upload by account and SHA-1 of the file, and hands out
// no id of its own. So InitUpload is three things at once: it opens an upload,
// finds an unfinished one with its parts, and answers with the media where the
// bytes are there already; Probe is InitUpload as well. Every part travels
// behind its MD5, which the request's signature covers.
//
// Each request is signed by itself, with a nonce that is good for once. No
// signature outlives its call, so a session does not lapse; it carries the
// account's key, and nothing may send a request of ours twice.
package tencentvod

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/uploads"
)

// The platform's names of the calls.
const (
	actionInit   = "InitUpload"
	actionPart   = "UploadPart"
	actionFinish = "FinishUpload"
)

// The only part sizes that the platform takes, in bytes.
const (
	smallPart = 512 << 10
	largePart = 1 << 20
)

// Client is the provider. It holds nothing of an account or an upload.
type Client struct {
	http  *http.Client
	now   func() time.Time // the clock that requests are signed by
	nonce func() uint32    // what no two requests within hours should share
}

var (
	_ providers.Provider       = (*Client)(nil)
	_ providers.AccountChecker = (*Client)(nil)
	_ providers.MediaChecker   = (*Client)(nil)
)

// New returns the provider over the client's transport. Redirects are not
// followed: they would carry the signature to another host.
func New(client *http.Client) *Client {
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{http: &own, now: time.Now, nonce: randomNonce}
}

// Limits returns the documented bounds. The platform publishes none for the
// size of a file, the number of parts or the life of an unfinished upload; its
// bound on names is for the part before the extension, and CheckMedia's.
func (c *Client) Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   smallPart,
			MaxPart:   largePart,
			Sizes:     []int64{smallPart, largePart},
			Preferred: largePart,
		},
		PartDigest:    hashing.MD5,
		DigestFirst:   true,
		ObjectDigests: []hashing.Kind{hashing.SHA1},
		KnownBy:       hashing.SHA1,
		Calls: map[providers.Call]providers.Rate{
			// Both are InitUpload, which may be called 100 times a minute.
			providers.CallBegin:  {Count: 80, Per: time.Minute},
			providers.CallProbe:  {Count: 20, Per: time.Minute},
			providers.CallPut:    {Count: 10_000, Per: time.Minute},
			providers.CallFinish: {Count: 100, Per: time.Minute},
		},
	}
}

// session is the encoding of Session.Data.
type session struct {
	target
	FileSHA string `json:"file_sha"`
}

// Begin opens the upload, takes up an unfinished one of the same bytes, or
// answers with the media if the platform has them. It may be repeated.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	s, answer, err := c.init(ctx, account, media)
	if err != nil {
		return providers.Begun{}, err
	}
	if *answer.Code == initStored {
		asset := answer.asset()
		return providers.Begun{Asset: &asset}, nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return providers.Begun{}, &providers.Error{Kind: providers.Rejected, Call: actionInit, Err: err}
	}
	begun := providers.Begun{Session: providers.Session{Data: data}}
	if *answer.Code == initResume {
		begun.PartSize = answer.partSize(media.PartSize)
		begun.Found = answer.found(parts.Plan{Size: media.Size, PartSize: begun.PartSize})
	}
	return begun, nil
}

// PutPart sends one part from memory, behind its MD5. It may be repeated; the
// platform takes a part that it has again. The receipt is the MD5.
func (c *Client) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := readSession(actionPart, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	data, digest := body.Bytes(), body.Digest()
	if int64(len(data)) != part.Length || digest.Kind != hashing.MD5 {
		return parts.Receipt{}, &providers.Error{
			Kind: providers.Mismatch, Call: actionPart,
			Message: fmt.Sprintf("part %d of %d bytes came with %d bytes and digest %q", part.Number, part.Length, len(data), digest.Kind),
		}
	}
	_, err = c.call(ctx, actionPart, s, params{
		"offset":   strconv.FormatInt(part.Offset, 10),
		"dataSize": strconv.FormatInt(part.Length, 10),
		"dataMd5":  digest.Sum,
	}, data)
	if err != nil {
		return parts.Receipt{}, err
	}
	return parts.Receipt{Tag: digest.Sum}, nil
}

// Finish assembles the upload. The platform answers a repeated call with the
// same media, but an answer that is lost or not to be read is an unknown
// outcome all the same; Probe settles it.
func (c *Client) Finish(ctx context.Context, ps providers.Session, _ []parts.Stored) (uploads.Asset, error) {
	s, err := readSession(actionFinish, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	answer, err := c.call(ctx, actionFinish, s, params{}, nil)
	if err != nil {
		return uploads.Asset{}, err
	}
	if answer.FileID == "" {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: actionFinish, Message: "the answer names no fileId"}
	}
	return answer.asset(), nil
}

// Probe asks InitUpload what is there. An unfinished upload without a part is
// the same to the platform as none, and the same to us: nothing is lost.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, _ providers.Session) (providers.Outcome, error) {
	s, answer, err := c.init(ctx, account, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	out := providers.Outcome{
		Holding: providers.HoldsNothing,
		Evidence: fmt.Sprintf("%s for SHA-1 %s answered code %d with %d parts, fileId %q",
			actionInit, s.FileSHA, *answer.Code, len(answer.ListParts), answer.FileID),
	}
	switch *answer.Code {
	case initStored:
		out.Holding, out.Asset = providers.HoldsAsset, answer.asset()
	case initResume:
		out.Holding, out.Listed = providers.HoldsSession, true
		out.Found = answer.found(parts.Plan{Size: media.Size, PartSize: answer.partSize(media.PartSize)})
	}
	return out, nil
}

// Locate names the SHA-1 that the platform knows the media by.
func (c *Client) Locate(ps providers.Session) string {
	s, err := readSession(actionInit, ps)
	if err != nil {
		return "the name of the upload"
	}
	return "media with SHA-1 " + s.FileSHA
}

// Abort does nothing: the platform has no call to discard an unfinished
// upload, it forgets one after a time of its own.
func (c *Client) Abort(context.Context, providers.Session) error { return nil }

// init calls InitUpload, and returns an answer whose code is one of the three
// successes.
func (c *Client) init(ctx context.Context, account providers.Account, media providers.Media) (session, answer, error) {
	rejected := func(err error) (session, answer, error) {
		return session{}, answer{}, &providers.Error{Kind: providers.Rejected, Call: actionInit, Err: err}
	}
	t, err := readAccount(account)
	if err != nil {
		return rejected(err)
	}
	o, err := readOptions(media)
	if err != nil {
		return rejected(err)
	}
	sha, err := objectSHA(media)
	if err != nil {
		return rejected(err)
	}
	s := session{target: t, FileSHA: sha}
	p := o.params(t.Style)
	p["fileSize"] = strconv.FormatInt(media.Size, 10)
	p["dataSize"] = strconv.FormatInt(media.PartSize, 10)
	got, err := c.call(ctx, actionInit, s, p, nil)
	if err != nil {
		return session{}, answer{}, err
	}
	if size := got.partSize(media.PartSize); *got.Code == initResume && size != smallPart && size != largePart {
		return session{}, answer{}, &providers.Error{Kind: providers.Rejected, Call: actionInit, Code: "1", Message: fmt.Sprintf("the platform asks for parts of %d bytes", size)}
	}
	if *got.Code == initStored && got.FileID == "" {
		return session{}, answer{}, &providers.Error{Kind: providers.Transient, Call: actionInit, Code: "2", Message: "the answer names no fileId"}
	}
	return s, got, nil
}

func readSession(action string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		// The cause might quote what it could not read, and that holds a key.
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: action, Message: "the session cannot be read"}
	}
	return s, nil
}

// call signs and makes one request, and returns an answer that is a success.
// All parameters travel in the query, the part's bytes alone in the body.
func (c *Client) call(ctx context.Context, action string, s session, more params, body []byte) (answer, error) {
	method := http.MethodGet
	if body != nil || s.Style == styleSDK {
		method = http.MethodPost
	}
	// The query is set afterwards, so that no error of this call can quote it.
	req, err := http.NewRequestWithContext(ctx, method, s.Endpoint+s.Path, nil)
	if err != nil {
		return answer{}, &providers.Error{Kind: providers.Rejected, Call: action, Err: err}
	}
	p := c.common(action, s)
	maps.Copy(p, more)
	signature := p.signature(method, req.URL.Host, s.Path, s.Algorithm, s.SecretKey)
	p["Signature"] = signature
	req.URL.RawQuery = p.query()
	var loan lent.Loan
	defer loan.Return()
	switch {
	case body != nil:
		req.Header.Set("Content-Type", "application/octet-stream")
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return loan.Reader(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	case method == http.MethodGet:
		// A transport repeats a GET by itself when a kept connection breaks, but
		// a signature is good for once, and finish must not be called again
		// before a probe. A body that cannot be had twice forbids it; being
		// empty, it changes nothing of the request. A POST is never repeated
		// once a byte of it was written.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	lost := providers.Transient
	if action == actionFinish {
		lost = providers.UnknownOutcome
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, unanswered(action, lost, err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := readAnswer(action, lost, resp)
	if err != nil {
		return answer{}, err
	}
	if !got.succeeded(action) {
		return answer{}, got.refusal(action, s.SecretKey, s.SecretID, signature, url.QueryEscape(signature))
	}
	return got, nil
}

// common returns the parameters that every call has.
func (c *Client) common(action string, s session) params {
	p := params{
		"Action":    action,
		"SecretId":  s.SecretID,
		"Timestamp": strconv.FormatInt(c.now().Unix(), 10),
		"Nonce":     strconv.FormatUint(uint64(c.nonce()), 10),
		"Region":    s.Region,
		"fileSha":   s.FileSHA,
	}
	if s.Algorithm != hmacSHA1 {
		p["SignatureMethod"] = string(s.Algorithm)
	}
	return p
}

// randomNonce returns a positive number of 31 bits, since the platform
// documents no width. One that comes up twice is refused and costs a try.
func randomNonce() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.BigEndian.Uint32(b[:])>>1, 1)
}
