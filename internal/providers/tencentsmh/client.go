// Package tencentsmh speaks Tencent Smart Media Hosting's multipart upload.
//
// The platform has two sides. Its API starts an upload, renews it, reports its
// status, confirms and cancels it. The object storage behind it takes the parts,
// under headers that the API gives out and that lapse. No list of parts is ever
// sent: on confirmation the API lists them itself and compares the CRC-64 of the
// whole, which is combined from those of the parts and therefore always sent.
//
// Each start is a new task, identified by a confirm key that nobody else has, so
// the task's status tells what became of a confirmation. Files also carry the
// upload's id as metadata: if a name is taken, or a task is gone, the file of that
// name says whether it is ours.
package tencentsmh

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
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

// Our names of the calls; the platform's documents give them titles only.
const (
	callToken   = "CreateToken"
	callStart   = "StartUpload"
	callPart    = "UploadPart"
	callRenew   = "RenewUpload"
	callStatus  = "UploadStatus"
	callConfirm = "ConfirmUpload"
	callCancel  = "CancelUpload"
	callInfo    = "FileInfo"
)

// tokenPeriod is how long an access token is valid after its last use. A day is
// the platform's own choice; renewing a session makes a new token.
const tokenPeriod = 24 * time.Hour

// uploadMeta is the name of the metadata that holds the upload's id.
const uploadMeta = "mediaferry-upload"

// Client is the provider. It holds nothing of an account or an upload.
type Client struct {
	http *http.Client
	now  func() time.Time // the clock that tokens lapse by
}

var (
	_ providers.Provider       = (*Client)(nil)
	_ providers.Renewer        = (*Client)(nil)
	_ providers.AccountChecker = (*Client)(nil)
	_ providers.MediaChecker   = (*Client)(nil)
	_ providers.DigestChooser  = (*Client)(nil)
)

// New returns the provider over the client's transport. Redirects are not
// followed: they would carry the token to another host.
func New(client *http.Client) *Client {
	return &Client{http: webapi.Direct(client), now: time.Now}
}

// Limits returns the documented bounds. The platform publishes no rates. Each
// session says how long it lasts.
func (c *Client) Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   1 << 20,
			MaxPart:   5 << 30,
			Preferred: 16 << 20,
			MaxParts:  10_000,
		},
		PartDigest:    hashing.CRC64ECMA,
		ObjectDigests: []hashing.Kind{hashing.SMH},
	}
}

// session is the encoding of Session.Data. It holds a token that may upload to
// the one space, not the library's secret: workers are given it.
type session struct {
	Endpoint   string            `json:"endpoint"`
	Library    string            `json:"library"`
	Space      string            `json:"space"`
	Token      string            `json:"token"`
	File       []string          `json:"file"` // directories and name
	Conflict   conflict          `json:"conflict"`
	ConfirmKey string            `json:"confirm_key"`
	Object     string            `json:"object"` // URL that parts are put to, without a query
	UploadID   string            `json:"upload_id"`
	Headers    map[string]string `json:"headers"`
}

// Begin starts a task, or learns that the platform has these bytes and has made
// the file of them. If repeated, it starts another task, and the first one lapses.
// Under the conflict strategy ask a taken name is refused, unless its file is this
// very upload's, as after a lost answer.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	t, o, err := c.read(callStart, account, media)
	if err != nil {
		return providers.Begun{}, err
	}
	s, lapses, err := c.describe(ctx, t, o, media)
	if err != nil {
		return providers.Begun{}, err
	}
	var hashes hashing.Digest
	if t.asksInstant(o, media.Size) {
		hashes = media.Digest(hashing.SMH)
	}
	status, body, err := c.start(ctx, s, o, media, hashes)
	if err == nil && status == http.StatusAccepted {
		// The library has a file with this beginning. That says nothing about the
		// whole, so it is sent.
		hashes = hashing.Digest{}
		status, body, err = c.start(ctx, s, o, media, hashes)
	}
	switch {
	case hasCode(err, codeNameTaken):
		asset, ours, ierr := c.lookUp(ctx, s, media.Upload)
		if ours {
			return providers.Begun{Asset: &asset}, nil
		}
		if kind := providers.KindOf(ierr); ierr != nil && (kind == providers.Transient || kind == providers.Throttled) {
			return providers.Begun{}, ierr
		}
		return providers.Begun{}, err
	case err != nil:
		return providers.Begun{}, err
	case status == http.StatusOK && !hashes.IsZero():
		f, err := parseFile(body)
		if err != nil {
			return providers.Begun{}, unreadable(callStart, providers.Transient, status, err)
		}
		asset, err := s.asset(callStart, f)
		if err != nil {
			return providers.Begun{}, err
		}
		return providers.Begun{Asset: &asset}, nil
	case status == http.StatusCreated:
		ps, err := s.opened(callStart, body, lapses)
		return providers.Begun{Session: ps}, err
	default:
		return providers.Begun{}, &providers.Error{Kind: providers.Transient, Call: callStart, Code: strconv.Itoa(status), Message: "is no answer to this call"}
	}
}

// PutPart streams one part and compares its CRC-64 with the storage's answer. It
// may be repeated; the last one counts. The receipt is the part's ETag.
//
// If the storage answers without a CRC-64, the part counts as stored, and Finish
// has the whole compared.
func (c *Client) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := readSession(callPart, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	if body.Len() != part.Length {
		return parts.Receipt{}, mismatch(callPart, "part of %d bytes came with %d", part.Length, body.Len())
	}
	if !ps.Expires.IsZero() && c.now().After(ps.Expires) {
		// The storage would say so too, but only once the bytes are on their way.
		return parts.Receipt{}, &providers.Error{Kind: providers.Unauthorized, Call: callPart, Message: "the headers lapsed at " + ps.Expires.UTC().Format(time.RFC3339)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.Object, nil)
	if err != nil {
		return parts.Receipt{}, &providers.Error{Kind: providers.Rejected, Call: callPart, Err: err}
	}
	req.URL.RawQuery = url.Values{"uploadId": {s.UploadID}, "partNumber": {strconv.Itoa(part.Number)}}.Encode()
	for name, value := range s.Headers {
		if strings.EqualFold(name, "Host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value) // net/http drops a Content-Length, it writes the part's own
	}
	var loan lent.Loan
	defer loan.Return()
	req.Body = loan.Reader(lent.Whole(body, part.Length))
	req.ContentLength = part.Length
	resp, err := c.http.Do(req)
	if err != nil {
		return parts.Receipt{}, c.asked(ctx, s, providers.TransportError(callPart, providers.Transient, err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return parts.Receipt{}, refusal(callPart, providers.Transient, resp, s.secrets())
	}
	loan.Return() // nothing reads the body any more, so its digest is final
	crc := resp.Header.Get("X-Cos-Hash-Crc64ecma")
	receipt := parts.Receipt{Tag: tag(resp.Header.Get("ETag")), Unconfirmed: crc == ""}
	switch {
	case receipt.Tag == "":
		return parts.Receipt{}, &providers.Error{Kind: providers.Transient, Call: callPart, Code: "200", Message: "the answer has no ETag"}
	case crc != "" && crc != decimal(body.Digest()):
		return parts.Receipt{}, mismatch(callPart, "the storage holds part %d with CRC-64 %s, %s was sent", part.Number, webapi.Words(crc), decimal(body.Digest()))
	}
	return receipt, nil
}

// asked returns what the task's status says of a part without an answer, if that is
// why: the storage may refuse a part and close before it has read the body, and then
// its answer is lost. What else it may have said, another try will tell.
func (c *Client) asked(ctx context.Context, s session, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if _, gone := c.status(ctx, s); providers.KindOf(gone) == providers.SessionLost {
		return gone
	}
	return err
}

// Finish confirms the task with the CRC-64 of the whole. A task that was
// confirmed before is no error: its status names the file.
func (c *Client) Finish(ctx context.Context, ps providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	s, err := readSession(callConfirm, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	whole, err := combine(stored)
	if err != nil {
		return uploads.Asset{}, &providers.Error{Kind: providers.Rejected, Call: callConfirm, Err: err}
	}
	crc := decimal(whole)
	// A transport repeats no POST that has reached the wire, so this is one call.
	status, body, err := c.call(ctx, s.Endpoint, request{
		name: callConfirm, method: http.MethodPost, path: s.task(), flag: "confirm",
		query:   url.Values{"conflict_resolution_strategy": {string(s.Conflict)}},
		body:    map[string]string{"crc64": crc},
		lost:    providers.UnknownOutcome,
		token:   s.Token,
		secrets: s.secrets(),
	})
	if hasCode(err, codeUploadComplete) {
		return c.confirmed(ctx, s, err)
	}
	if err != nil {
		return uploads.Asset{}, err
	}
	f, err := parseFile(body)
	if err != nil {
		return uploads.Asset{}, unreadable(callConfirm, providers.UnknownOutcome, status, err)
	}
	if string(f.CRC64) != crc {
		return uploads.Asset{}, &providers.Error{
			Kind: providers.Mismatch, Call: callConfirm, Err: providers.ErrWrongAsset,
			Message: fmt.Sprintf("the file has CRC-64 %s, the parts make %s", f.CRC64, crc),
		}
	}
	asset, err := s.asset(callConfirm, f)
	asset.Check = &uploads.AssetCheck{Kind: string(whole.Kind), Expected: whole.Sum, Got: whole.Sum}
	return asset, err
}

// confirmed returns the file of a task that is said to be complete, or an error if
// that cannot be found out.
func (c *Client) confirmed(ctx context.Context, s session, complete error) (uploads.Asset, error) {
	st, err := c.status(ctx, s)
	if err != nil {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: callConfirm, Code: codeUploadComplete, Err: err}
	}
	if !*st.Confirmed || st.Path == nil {
		return uploads.Asset{}, complete
	}
	return s.assetAt(st.Path, nil), nil
}

// Probe asks for the task's status. If the task is gone, it looks at the file of
// that name, which is ours if it carries the upload's id. If it is not ours, and a
// taken name would have been changed, nobody can tell.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Outcome, error) {
	t, o, err := c.read(callStatus, account, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	// With a fresh token: the session's may have lapsed while its task has not.
	s, _, err := c.describe(ctx, t, o, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	if len(ps.Data) == 0 {
		return c.probeFile(ctx, s, media, errors.New("no session is known"))
	}
	opened, err := readSession(callStatus, ps)
	if err != nil {
		return providers.Outcome{}, err
	}
	s.File, s.Conflict, s.ConfirmKey = opened.File, opened.Conflict, opened.ConfirmKey
	st, err := c.status(ctx, s)
	switch {
	case hasCode(err, codeKeyNotFound, codeUploadNotFound):
		return c.probeFile(ctx, s, media, err)
	case err != nil:
		return providers.Outcome{}, err
	}
	out := providers.Outcome{
		Holding:  providers.HoldsSession,
		Evidence: fmt.Sprintf("%s of %s: confirmed %t, %d parts, path %q", callStatus, s.name(), *st.Confirmed, len(st.Parts), st.Path),
	}
	switch {
	case *st.Confirmed && st.Path != nil:
		out.Holding, out.Asset = providers.HoldsAsset, s.assetAt(st.Path, nil)
	case *st.Confirmed:
		out.Holding = providers.HoldsUnknown
		out.Evidence += "; it was finished, but a directory above it was deleted since"
	default:
		out.Listed = true
		out.Found = st.found(parts.Plan{Size: media.Size, PartSize: media.PartSize})
	}
	return out, nil
}

// Locate names the file and its task.
func (c *Client) Locate(ps providers.Session) string {
	s, err := readSession(callStatus, ps)
	if err != nil {
		return "the name of the upload"
	}
	return fmt.Sprintf("file %s (task %s)", s.name(), s.ConfirmKey)
}

// probeFile settles a task that is gone by the file under its name.
func (c *Client) probeFile(ctx context.Context, s session, media providers.Media, gone error) (providers.Outcome, error) {
	asset, ours, err := c.lookUp(ctx, s, media.Upload)
	if err != nil {
		return providers.Outcome{}, err
	}
	evidence := fmt.Sprintf("%v; %s of %s: of upload %s: %t", gone, callInfo, s.name(), media.Upload, ours)
	switch {
	case ours:
		return providers.Outcome{Holding: providers.HoldsAsset, Asset: asset, Evidence: evidence}, nil
	case s.Conflict == conflictRename:
		return providers.Outcome{Holding: providers.HoldsUnknown, Evidence: evidence + "; it may be there under another name"}, nil
	default:
		return providers.Outcome{Holding: providers.HoldsNothing, Evidence: evidence}, nil
	}
}

// Renew returns a session with fresh headers and a fresh token. It works before
// and after the old ones have lapsed, as long as the platform keeps the task.
func (c *Client) Renew(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Session, error) {
	t, o, err := c.read(callRenew, account, media)
	if err != nil {
		return providers.Session{}, err
	}
	s, err := readSession(callRenew, ps)
	if err != nil {
		return providers.Session{}, err
	}
	fresh, lapses, err := c.describe(ctx, t, o, media)
	if err != nil {
		return providers.Session{}, err
	}
	s.Token = fresh.Token
	_, body, err := c.call(ctx, s.Endpoint, request{
		name: callRenew, method: http.MethodPost, path: s.task(), flag: "renew",
		token: s.Token, secrets: s.secrets(),
	})
	if err != nil {
		return providers.Session{}, err
	}
	return s.opened(callRenew, body, lapses)
}

// Abort cancels the task, which discards its parts. It asks for the task's status
// first, since the documents do not say what cancelling a confirmed one does.
func (c *Client) Abort(ctx context.Context, ps providers.Session) error {
	s, err := readSession(callCancel, ps)
	if err != nil {
		return err
	}
	st, err := c.status(ctx, s)
	if err == nil && !*st.Confirmed {
		_, _, err = c.call(ctx, s.Endpoint, request{
			name: callCancel, method: http.MethodDelete, path: s.task(), flag: "upload",
			token: s.Token, secrets: s.secrets(),
		})
	}
	if hasCode(err, codeKeyNotFound, codeUploadNotFound, codeUploadComplete) {
		return nil
	}
	return err
}

// read reads and checks account and media.
func (c *Client) read(call string, account providers.Account, media providers.Media) (target, options, error) {
	t, terr := readAccount(account)
	o, oerr := readOptions(media)
	if err := errors.Join(terr, checkName(media.Name), oerr); err != nil {
		return target{}, options{}, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	return t, o, nil
}

// describe makes a token and returns the session of the media before a task is
// opened, and when the token lapses.
func (c *Client) describe(ctx context.Context, t target, o options, media providers.Media) (session, time.Time, error) {
	query := url.Values{
		"library_id":     {t.library},
		"library_secret": {t.secret.Reveal()},
		"period":         {strconv.Itoa(int(tokenPeriod / time.Second))},
		"grant":          {t.grants(o)},
	}
	if t.space != "-" {
		query.Set("space_id", t.space)
	}
	if t.user != "" {
		query.Set("user_id", t.user)
	}
	asked := c.now()
	status, body, err := c.call(ctx, t.endpoint, request{
		name: callToken, method: http.MethodGet, path: "/api/v1/token", query: query,
		secrets: []string{t.secret.Reveal()},
	})
	if err != nil {
		return session{}, time.Time{}, err
	}
	token, life, err := parseToken(body)
	if err != nil {
		return session{}, time.Time{}, unreadable(callToken, providers.Transient, status, err)
	}
	return session{
		Endpoint: t.endpoint, Library: t.library, Space: t.space, Token: token,
		File: append(slices.Clone(o.directory), media.Name), Conflict: o.conflict,
	}, asked.Add(life), nil
}

// startBody is what StartUpload is told of the file.
type startBody struct {
	BeginningHash string   `json:"beginningHash,omitempty"`
	FullHash      string   `json:"fullHash,omitempty"`
	Size          string   `json:"size"` // bytes
	Labels        []string `json:"labels,omitempty"`
	Category      string   `json:"category,omitempty"`
}

func (c *Client) start(ctx context.Context, s session, o options, media providers.Media, hashes hashing.Digest) (int, []byte, error) {
	size := strconv.FormatInt(media.Size, 10)
	body := startBody{Size: size, Labels: o.labels, Category: o.category}
	if sum := hashes.Sum; sum != "" {
		body.BeginningHash, body.FullHash = sum[:len(sum)/2], sum[len(sum)/2:]
	}
	return c.call(ctx, s.Endpoint, request{
		name: callStart, method: http.MethodPost, path: s.address(s.File...), flag: "multipart",
		query:  url.Values{"conflict_resolution_strategy": {string(s.Conflict)}, "filesize": {size}},
		header: http.Header{"X-Smh-Meta-" + uploadMeta: {media.Upload.String()}},
		body:   body, token: s.Token, secrets: s.secrets(),
	})
}

func (c *Client) status(ctx context.Context, s session) (taskStatus, error) {
	status, body, err := c.call(ctx, s.Endpoint, request{
		name: callStatus, method: http.MethodGet, path: s.task(), flag: "upload",
		token: s.Token, secrets: s.secrets(),
	})
	if err != nil {
		return taskStatus{}, err
	}
	st, err := parseStatus(body)
	if err != nil {
		return taskStatus{}, unreadable(callStatus, providers.Transient, status, err)
	}
	return st, nil
}

// lookUp returns the file under the session's name if it is the upload's.
func (c *Client) lookUp(ctx context.Context, s session, upload uploads.ID) (asset uploads.Asset, ours bool, err error) {
	status, body, err := c.call(ctx, s.Endpoint, request{
		name: callInfo, method: http.MethodGet, path: s.address(s.File...), flag: "info",
		token: s.Token, secrets: s.secrets(),
	})
	if hasCode(err, codeFileNotFound, codePathNotFound, codeNoDirectory) {
		return uploads.Asset{}, false, nil
	}
	if err != nil {
		return uploads.Asset{}, false, err
	}
	var f fileInfo // a directory has no checksum, so this is not parseFile
	if err := json.Unmarshal(body, &f); err != nil {
		return uploads.Asset{}, false, unreadable(callInfo, providers.Transient, status, err)
	}
	for name, value := range f.MetaData {
		if strings.EqualFold(name, uploadMeta) && string(value) == upload.String() {
			return s.assetAt(s.File, f.detail()), true, nil
		}
	}
	return uploads.Asset{}, false, nil
}

// request is one call of the API.
type request struct {
	name    string
	method  string
	path    string // escaped
	flag    string // tells calls of one path apart; sent bare, as documented
	query   url.Values
	header  http.Header
	body    any // as JSON; nil for none
	lost    providers.Kind
	token   string
	secrets []string // struck from the platform's words
}

// call makes one call and returns the status and body of a success.
func (c *Client) call(ctx context.Context, endpoint string, r request) (int, []byte, error) {
	lost := r.lost
	if lost == "" {
		lost = providers.Transient
	}
	var content io.Reader
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return 0, nil, &providers.Error{Kind: providers.Rejected, Call: r.name, Err: err}
		}
		content = bytes.NewReader(data)
	}
	// The query is set afterwards, so that no error of this call can quote it.
	req, err := http.NewRequestWithContext(ctx, r.method, endpoint+r.path, content)
	if err != nil {
		return 0, nil, &providers.Error{Kind: providers.Rejected, Call: r.name, Err: err}
	}
	query := url.Values{}
	maps.Copy(query, r.query)
	if r.token != "" {
		query.Set("access_token", r.token)
	}
	req.URL.RawQuery = strings.Trim(r.flag+"&"+query.Encode(), "&")
	if r.header != nil {
		req.Header = r.header
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, providers.TransportError(r.name, lost, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return 0, nil, refusal(r.name, lost, resp, r.secrets)
	}
	most := int64(webapi.MaxAnswer)
	if r.name == callStatus {
		most = maxList
	}
	body, err := webapi.ReadAnswer(resp.Body, most)
	if err != nil {
		return 0, nil, providers.TransportError(r.name, lost, err)
	}
	return resp.StatusCode, body, nil
}

func readSession(call string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: call, Message: "the session cannot be read", Err: err}
	}
	return s, nil
}

// opened takes the upload info into the session. The session lapses with the info
// or with the token, whichever is first.
func (s session) opened(call string, body []byte, lapses time.Time) (providers.Session, error) {
	u, err := parseInfo(body)
	if err != nil {
		return providers.Session{}, unreadable(call, providers.Transient, http.StatusOK, err)
	}
	scheme, _, _ := strings.Cut(s.Endpoint, "://")
	object, err := u.object(scheme)
	if err != nil {
		return providers.Session{}, unreadable(call, providers.Transient, http.StatusOK, err)
	}
	s.Object = object.String()
	s.UploadID, s.ConfirmKey = cmp.Or(string(u.UploadID), s.UploadID), cmp.Or(string(u.ConfirmKey), s.ConfirmKey)
	if s.UploadID == "" || s.ConfirmKey == "" {
		return providers.Session{}, unreadable(call, providers.Transient, http.StatusOK, errors.New("upload info has no uploadId or no confirmKey"))
	}
	s.Headers = make(map[string]string, len(u.Headers))
	for name, value := range u.Headers {
		s.Headers[name] = string(value)
	}
	data, err := json.Marshal(s)
	if err != nil {
		return providers.Session{}, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	if at := u.expires(); !at.IsZero() && at.Before(lapses) {
		lapses = at
	}
	return providers.Session{Data: data, Expires: lapses}, nil
}

// secrets returns the parts of the session that must not be shown.
func (s session) secrets() []string {
	secrets := []string{s.Token}
	for name, value := range s.Headers {
		if name := http.CanonicalHeaderKey(name); name != "Content-Type" && len(value) > 8 {
			secrets = append(secrets, value)
		}
	}
	return secrets
}

// address returns the escaped path of a file, or of what stands in its place.
func (s session) address(names ...string) string {
	var b strings.Builder
	b.WriteString("/api/v1/file")
	for _, name := range append([]string{s.Library, s.Space}, names...) {
		b.WriteString("/" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20"))
	}
	return b.String()
}

func (s session) task() string { return s.address(s.ConfirmKey) }

// name returns the file for a person.
func (s session) name() string {
	return strings.Join(append([]string{s.Library, s.Space}, s.File...), "/")
}

// asset makes the asset of a finished file. If its directory has been deleted,
// nobody can reach it.
func (s session) asset(call string, f fileInfo) (uploads.Asset, error) {
	if f.Path == nil {
		return uploads.Asset{}, &providers.Error{Kind: providers.Rejected, Call: call, Message: "the file was made, but a directory above it was deleted"}
	}
	return s.assetAt(f.Path, f.detail()), nil
}

// assetAt makes the asset of the file at the path. Opening its URL needs an access
// token, unless anybody may read the library.
func (s session) assetAt(path []string, detail map[string]string) uploads.Asset {
	return uploads.Asset{
		ID:     strings.Join(append([]string{s.Library, s.Space}, path...), "/"),
		URL:    s.Endpoint + s.address(path...),
		Detail: detail,
	}
}

func (f fileInfo) detail() map[string]string {
	return map[string]string{"crc64": string(f.CRC64), "etag": tag(string(f.ETag))}
}

// combine returns the CRC-64 of the whole from those of its parts.
func combine(stored []parts.Stored) (hashing.Digest, error) {
	ordered := slices.Clone(stored)
	slices.SortFunc(ordered, func(x, y parts.Stored) int { return x.Number - y.Number })
	whole := hashing.New(hashing.CRC64ECMA, make([]byte, hashing.CRC64ECMA.Size())) // of no bytes
	for _, p := range ordered {
		var err error
		if whole, err = hashing.Combine(hashing.CRC64ECMA, whole, p.Digest, p.Length); err != nil {
			return hashing.Digest{}, fmt.Errorf("part %d: %w", p.Number, err)
		}
	}
	return whole, nil
}

// decimal returns a CRC-64 as the platform writes it.
func decimal(d hashing.Digest) string {
	raw := d.Bytes()
	if len(raw) != hashing.CRC64ECMA.Size() {
		return ""
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(raw), 10)
}

func mismatch(call, format string, args ...any) error {
	return &providers.Error{Kind: providers.Mismatch, Call: call, Message: fmt.Sprintf(format, args...)}
}

// unreadable is the error of a success whose body cannot be used.
func unreadable(call string, kind providers.Kind, status int, err error) error {
	return &providers.Error{Kind: kind, Call: call, Code: strconv.Itoa(status), Message: "the answer cannot be read", Err: err}
}
