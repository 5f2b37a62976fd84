package vodapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// The only part sizes that the platform takes, in bytes.
const (
	SmallPart = 512 << 10
	LargePart = 1 << 20
)

// Where calls go unless an account's settings say otherwise.
const (
	DefaultEndpoint = "https://vod2.qcloud.com"
	DefaultPath     = "/v2/index.php"
)

// Style is how parameters travel.
type Style string

// The styles.
const (
	StyleDocumented Style = "documented" // GET for calls without a body
	StyleSDK        Style = "sdk"        // POST for all, as the vendor's clients send them
)

// Target is where an upload's calls go and which upload they are for: the part
// of a session that does not depend on the dialect.
type Target struct {
	Endpoint string `json:"endpoint"` // scheme and host
	Path     string `json:"path"`
	Style    Style  `json:"style"`
	FileSHA  string `json:"file_sha"` // 40 lower-case hex digits
}

func (t Target) target() Target { return t }

// Session is what the calls of one upload are made with. It embeds Target, and
// its JSON is Session.Data.
type Session interface {
	// Sign adds to the parameters of a call what authorises it. It returns the
	// secrets that no error may show, even if the platform echoes them.
	Sign(call Signing, params Params) (secrets []string)

	target() Target
}

// Signing is what a signature may depend on besides the parameters.
type Signing struct {
	Method string
	Host   string
	Path   string
	At     time.Time
	Nonce  uint32
}

// Dialect is what distinguishes one of the part uploads from the other.
type Dialect struct {
	Init, Part, Finish string // the platform's names of the calls

	// Retryable tells whether a failure that means nothing in particular is worth
	// another try; canRetry is nil where the answer has none.
	Retryable func(code int, canRetry *int) bool
}

// Opening is how the first call of an upload is made.
type Opening[S Session] struct {
	Session S
	Expires time.Time // of the signature, where one is made for all calls; else zero
	Params  Params    // the dialect's own, besides the sizes
}

// Client calls the platform. It is a provider except for the limits and the
// reading of accounts and media. It holds nothing of an upload.
type Client[S Session] struct {
	HTTP  *http.Client
	Now   func() time.Time // the clock that calls are signed by
	Nonce func() uint32    // what no two calls within hours should share

	dialect Dialect
	open    func(providers.Account, providers.Media, string) (Opening[S], error)
}

// New returns a client over the transport of the given one. open reads an
// account and media whose SHA-1 it is given; its errors reject the upload.
func New[S Session](client *http.Client, d Dialect, open func(a providers.Account, m providers.Media, sha string) (Opening[S], error)) *Client[S] {
	return &Client[S]{HTTP: webapi.Direct(client), Now: time.Now, Nonce: Nonce, dialect: d, open: open}
}

// Limits returns the documented bounds that both uploads have. The platform
// publishes none for the size of a file or the number of parts.
func Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   SmallPart,
			MaxPart:   LargePart,
			Sizes:     []int64{SmallPart, LargePart},
			Preferred: LargePart,
		},
		PartDigest:    hashing.MD5,
		DigestFirst:   true,
		ObjectDigests: []hashing.Kind{hashing.SHA1},
		KnownBy:       hashing.SHA1,
	}
}

// Begin opens the upload, resumes an unfinished one of the same bytes, or answers
// with the media if the platform has them. It may be repeated.
func (c *Client[S]) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	o, answer, err := c.init(ctx, account, media)
	if err != nil {
		return providers.Begun{}, err
	}
	if *answer.Code == codeStored {
		asset := answer.asset()
		return providers.Begun{Asset: &asset}, nil
	}
	data, err := json.Marshal(o.Session)
	if err != nil {
		return providers.Begun{}, c.rejected(err)
	}
	begun := providers.Begun{Session: providers.Session{Data: data, Expires: o.Expires}}
	if *answer.Code == codeResume {
		begun.PartSize = answer.partSize(media.PartSize)
		begun.Found = answer.found(parts.Plan{Size: media.Size, PartSize: begun.PartSize})
	}
	return begun, nil
}

// PutPart sends one part from memory, after its MD5. It may be repeated; the
// platform accepts a part that it already has. The receipt is the MD5.
func (c *Client[S]) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := readSession[S](c.dialect.Part, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	data, digest := body.Bytes(), body.Digest()
	if int64(len(data)) != part.Length || digest.Kind != hashing.MD5 {
		return parts.Receipt{}, &providers.Error{
			Kind: providers.Mismatch, Call: c.dialect.Part,
			Message: fmt.Sprintf("part %d of %d bytes came with %d bytes and digest %q", part.Number, part.Length, len(data), digest.Kind),
		}
	}
	_, err = c.call(ctx, c.dialect.Part, s, Params{
		"offset":   strconv.FormatInt(part.Offset, 10),
		"dataSize": strconv.FormatInt(part.Length, 10),
		"dataMd5":  digest.Sum,
	}, data)
	if err != nil {
		return parts.Receipt{}, c.lapsed(ps, err)
	}
	return parts.Receipt{Tag: digest.Sum}, nil
}

// Finish assembles the upload. The platform answers a repeated call with the same
// media, but a lost or unreadable answer is an unknown outcome all the same, which
// Probe settles.
func (c *Client[S]) Finish(ctx context.Context, ps providers.Session, _ []parts.Stored) (uploads.Asset, error) {
	s, err := readSession[S](c.dialect.Finish, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	answer, err := c.call(ctx, c.dialect.Finish, s, Params{}, nil)
	if err != nil {
		return uploads.Asset{}, c.lapsed(ps, err)
	}
	if answer.FileID == "" {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: c.dialect.Finish, Message: "the answer names no fileId"}
	}
	if id := answer.provenID(); id != "" && id != string(answer.FileID) {
		return uploads.Asset{}, &providers.Error{
			Kind: providers.UnknownOutcome, Call: c.dialect.Finish,
			Message: fmt.Sprintf("the answer names fileId %q, its verify_content %q", answer.FileID, id),
		}
	}
	return answer.asset(), nil
}

// Probe makes the first call to ask what the platform has. It does not distinguish
// an unfinished upload without parts from none, and neither need we: nothing is
// lost.
func (c *Client[S]) Probe(ctx context.Context, account providers.Account, media providers.Media, _ providers.Session) (providers.Outcome, error) {
	o, answer, err := c.init(ctx, account, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	out := providers.Outcome{
		Holding: providers.HoldsNothing,
		Evidence: fmt.Sprintf("%s for SHA-1 %s answered code %d with %d parts, fileId %q",
			c.dialect.Init, o.Session.target().FileSHA, *answer.Code, len(answer.ListParts), answer.FileID),
	}
	switch *answer.Code {
	case codeStored:
		out.Holding, out.Asset = providers.HoldsAsset, answer.asset()
	case codeResume:
		out.Holding, out.Listed = providers.HoldsSession, true
		out.Found = answer.found(parts.Plan{Size: media.Size, PartSize: answer.partSize(media.PartSize)})
	}
	return out, nil
}

// Locate names the SHA-1 by which the platform identifies the media.
func (c *Client[S]) Locate(ps providers.Session) string {
	s, err := readSession[S](c.dialect.Init, ps)
	if err != nil {
		return "the name of the upload"
	}
	return "media with SHA-1 " + s.target().FileSHA
}

// Abort does nothing: the platform has no call to discard an unfinished upload,
// and forgets it after some time.
func (c *Client[S]) Abort(context.Context, providers.Session) error { return nil }

func (c *Client[S]) rejected(err error) *providers.Error {
	return &providers.Error{Kind: providers.Rejected, Call: c.dialect.Init, Err: err}
}

// init makes the first call, and returns an answer whose code is one of its three
// successes and which has what that code promises.
func (c *Client[S]) init(ctx context.Context, account providers.Account, media providers.Media) (Opening[S], answer, error) {
	fail := func(err error) (Opening[S], answer, error) { return Opening[S]{}, answer{}, err }
	sha := media.Digest(hashing.SHA1)
	if sha.IsZero() {
		return fail(c.rejected(errors.New("the SHA-1 of the object is not known")))
	}
	o, err := c.open(account, media, sha.Sum)
	if err != nil {
		return fail(c.rejected(err))
	}
	params := o.Params
	params["fileSize"] = strconv.FormatInt(media.Size, 10)
	params["dataSize"] = strconv.FormatInt(media.PartSize, 10)
	got, err := c.call(ctx, c.dialect.Init, o.Session, params, nil)
	if err != nil {
		return fail(err)
	}
	if size := got.partSize(media.PartSize); *got.Code == codeResume && size != SmallPart && size != LargePart {
		return fail(&providers.Error{Kind: providers.Rejected, Call: c.dialect.Init, Code: "1", Message: fmt.Sprintf("the platform asks for parts of %d bytes", size)})
	}
	if *got.Code == codeStored && got.FileID == "" {
		return fail(&providers.Error{Kind: providers.Transient, Call: c.dialect.Init, Code: "2", Message: "the answer names no fileId"})
	}
	return o, got, nil
}

func readSession[S Session](action string, ps providers.Session) (S, error) {
	var s S
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		// The cause might quote what it could not read, which holds a secret.
		var none S
		return none, &providers.Error{Kind: providers.SessionLost, Call: action, Message: "the session cannot be read"}
	}
	return s, nil
}

// lapsed turns the refusal of a signature that all calls of the session share into
// a lost session if the signature's time is over: a new session will do, since the
// credentials are not at fault.
func (c *Client[S]) lapsed(ps providers.Session, err error) error {
	e, ok := errors.AsType[*providers.Error](err)
	if !ok || ps.Expires.IsZero() {
		return err
	}
	if outdated(e) || (e.Kind == providers.Unauthorized && c.Now().After(ps.Expires)) {
		e.Kind = providers.SessionLost
	}
	return err
}

// call signs and makes one request, and returns an answer that is a success. All
// parameters travel in the query; the body is the part's bytes and nothing else.
func (c *Client[S]) call(ctx context.Context, action string, s S, params Params, body []byte) (answer, error) {
	target := s.target()
	method := http.MethodGet
	if body != nil || target.Style == StyleSDK {
		method = http.MethodPost
	}
	// The query is set afterwards, so that no error of this call can quote it.
	req, err := http.NewRequestWithContext(ctx, method, target.Endpoint+target.Path, nil)
	if err != nil {
		return answer{}, &providers.Error{Kind: providers.Rejected, Call: action, Err: err}
	}
	params["Action"], params["fileSha"] = action, target.FileSHA
	secrets := s.Sign(Signing{Method: method, Host: req.URL.Host, Path: target.Path, At: c.Now(), Nonce: c.Nonce()}, params)
	req.URL.RawQuery = params.Query()
	var loan lent.Loan
	defer loan.Return()
	switch {
	case body != nil:
		req.Header.Set("Content-Type", "application/octet-stream")
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return loan.Reader(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	case method == http.MethodGet:
		// A transport repeats a GET by itself if a kept connection breaks, but a
		// signature may be valid only once, and finish must not be called again
		// before a probe. A body that cannot be read twice prevents that, and being
		// empty it does not change the request. A POST is never repeated once a byte
		// of it was written.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	lost := providers.Transient
	if action == c.dialect.Finish {
		lost = providers.UnknownOutcome
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return answer{}, providers.TransportError(action, lost, err)
	}
	defer func() { _ = resp.Body.Close() }()
	most := int64(webapi.MaxAnswer)
	if action == c.dialect.Init {
		most = maxList
	}
	got, err := readAnswer(action, lost, resp, most)
	if err != nil {
		return answer{}, err
	}
	if !c.dialect.succeeded(action, int(*got.Code)) {
		return answer{}, got.refusal(c.dialect, action, secrets...)
	}
	return got, nil
}

// succeeded reports whether a code says that the call took effect. Positive codes
// are failures too, except the two of the first call.
func (d Dialect) succeeded(action string, code int) bool {
	return code == codeNew || (action == d.Init && (code == codeResume || code == codeStored))
}
