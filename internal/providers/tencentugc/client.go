// Package tencentugc speaks Tencent VOD's client-side part upload:
// InitUploadEx, UploadPartEx and FinishUploadEx.
//
// The platform knows an upload by account and SHA-1 of the file, and hands out
// no id of its own. So InitUploadEx is three things at once: it opens an
// upload, finds an unfinished one with its parts, and answers with the media
// where the bytes are there already; Probe is InitUploadEx as well. Every part
// travels behind its MD5, and the platform checks the SHA-1 of what it
// assembles, so no byte is accepted that is not of the object.
package tencentugc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	actionInit   = "InitUploadEx"
	actionPart   = "UploadPartEx"
	actionFinish = "FinishUploadEx"
)

// The only part sizes that the platform takes, in bytes.
const (
	smallPart = 512 << 10
	largePart = 1 << 20
)

// Client is the provider. It holds nothing of an account or an upload.
type Client struct {
	http *http.Client
	now  func() time.Time // the clock that signatures are issued by
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
	return &Client{http: &own, now: time.Now}
}

// Limits returns the documented bounds. The platform publishes none for the
// size of a file, the number of parts or the rate of calls.
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
		SessionLife:   signatureLife,
	}
}

// session is the encoding of Session.Data.
type session struct {
	Endpoint  string `json:"endpoint"`
	Path      string `json:"path"`
	Style     style  `json:"style"`
	FileSHA   string `json:"file_sha"`
	Signature string `json:"signature"`
}

// Begin opens the upload, takes up an unfinished one of the same bytes, or
// answers with the media if the platform has them. It may be repeated.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	s, expires, answer, err := c.init(ctx, account, media)
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
	begun := providers.Begun{Session: providers.Session{Data: data, Expires: expires}}
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
	query := url.Values{
		"offset":   {strconv.FormatInt(part.Offset, 10)},
		"dataSize": {strconv.FormatInt(part.Length, 10)},
		"dataMd5":  {digest.Sum},
	}
	var loan lent.Loan
	defer loan.Return()
	answer, err := c.call(ctx, actionPart, s, query, &payload{data: data, loan: &loan})
	if err != nil {
		return parts.Receipt{}, c.lapsed(ps, err)
	}
	if *answer.Code != 0 {
		return parts.Receipt{}, c.lapsed(ps, answer.refusal(actionPart, s.Signature))
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
	answer, err := c.call(ctx, actionFinish, s, url.Values{}, nil)
	if err != nil {
		return uploads.Asset{}, c.lapsed(ps, err)
	}
	if *answer.Code != 0 {
		return uploads.Asset{}, c.lapsed(ps, answer.refusal(actionFinish, s.Signature))
	}
	if answer.FileID == "" {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: actionFinish, Message: "the answer names no fileId"}
	}
	return answer.asset(), nil
}

// Probe asks InitUploadEx what is there. An unfinished upload without a part
// is the same to the platform as none, and the same to us: nothing is lost.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, _ providers.Session) (providers.Outcome, error) {
	_, _, answer, err := c.init(ctx, account, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	out := providers.Outcome{Holding: providers.HoldsNothing}
	switch *answer.Code {
	case initStored:
		out.Holding, out.Asset = providers.HoldsAsset, answer.asset()
	case initResume:
		out.Holding, out.Listed = providers.HoldsSession, true
		out.Found = answer.found(parts.Plan{Size: media.Size, PartSize: answer.partSize(media.PartSize)})
	}
	out.Evidence = fmt.Sprintf("%s for SHA-1 %s answered code %d with %d parts, fileId %q",
		actionInit, media.Digest(hashing.SHA1).Sum, *answer.Code, len(answer.ListParts), answer.FileID)
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

// init signs and calls InitUploadEx, and returns an answer whose code is one
// of the three successes.
func (c *Client) init(ctx context.Context, account providers.Account, media providers.Media) (session, time.Time, answer, error) {
	fail := func(err error) (session, time.Time, answer, error) {
		return session{}, time.Time{}, answer{}, err
	}
	rejected := func(err error) (session, time.Time, answer, error) {
		return fail(&providers.Error{Kind: providers.Rejected, Call: actionInit, Err: err})
	}
	t, err := readAccount(account)
	if err != nil {
		return rejected(err)
	}
	if err := c.CheckMedia(media); err != nil {
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
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	now := c.now()
	g := grant{
		secretID: t.secretID,
		name:     media.Name,
		fileSHA:  sha,
		fileType: o.fileType,
		issued:   now,
		expires:  now.Add(signatureLife),
		random:   binary.BigEndian.Uint32(random[:]),
		uid:      t.uid,
		options:  o,
	}
	s := session{Endpoint: t.endpoint, Path: t.path, Style: t.style, FileSHA: sha, Signature: g.sign(t.secretKey)}
	got, err := c.call(ctx, actionInit, s, url.Values{
		"fileSize": {strconv.FormatInt(media.Size, 10)},
		"dataSize": {strconv.FormatInt(media.PartSize, 10)},
	}, nil)
	if err != nil {
		return fail(err)
	}
	switch *got.Code {
	case initNew:
	case initResume:
		if size := got.partSize(media.PartSize); size != smallPart && size != largePart {
			return fail(&providers.Error{Kind: providers.Rejected, Call: actionInit, Code: "1", Message: fmt.Sprintf("the platform asks for parts of %d bytes", size)})
		}
	case initStored:
		if got.FileID == "" {
			return fail(&providers.Error{Kind: providers.Transient, Call: actionInit, Code: "2", Message: "the answer names no fileId"})
		}
	default:
		return fail(got.refusal(actionInit, s.Signature, t.secretID))
	}
	return s, g.expires, got, nil
}

func readSession(action string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: action, Message: "the session cannot be read", Err: err}
	}
	return s, nil
}

// lapsed turns a refused signature into a lost session where the signature is
// past its time: a new one will do, the credentials are not at fault.
func (c *Client) lapsed(ps providers.Session, err error) error {
	e, ok := errors.AsType[*providers.Error](err)
	if ok && e.Kind == providers.Unauthorized && !ps.Expires.IsZero() && c.now().After(ps.Expires) {
		e.Kind = providers.SessionLost
	}
	return err
}

// payload is the body of a call.
type payload struct {
	data []byte
	loan *lent.Loan
}

func (p *payload) open() (io.ReadCloser, error) { return p.loan.Reader(bytes.NewReader(p.data)), nil }

// call makes one request and reads its answer, whose code is set. All
// parameters travel in the query, the part's bytes alone in the body.
func (c *Client) call(ctx context.Context, action string, s session, query url.Values, body *payload) (answer, error) {
	method, signature := http.MethodGet, "signature"
	if s.Style == styleSDK {
		method, signature = http.MethodPost, "Signature"
	}
	if body != nil {
		method = http.MethodPost
	}
	query.Set("Action", action)
	query.Set("fileSha", s.FileSHA)
	query.Set(signature, s.Signature)
	// The query is set afterwards, so that no error of this call can quote it.
	req, err := http.NewRequestWithContext(ctx, method, s.Endpoint+s.Path, nil)
	if err != nil {
		return answer{}, &providers.Error{Kind: providers.Rejected, Call: action, Err: err}
	}
	req.URL.RawQuery = query.Encode()
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.ContentLength = int64(len(body.data))
		req.GetBody = body.open
		req.Body, _ = body.open()
	}
	lost := providers.Transient
	if action == actionFinish {
		lost = providers.UnknownOutcome
		// A transport repeats a GET by itself when a kept connection breaks, and
		// finish must not be called again before a probe. A body that cannot be
		// had twice forbids it; being empty, it changes nothing of the request.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, providers.TransportError(action, lost, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readAnswer(action, lost, resp)
}
