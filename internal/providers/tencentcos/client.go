// Package tencentcos uploads to Tencent VOD by way of Tencent's object storage:
// ApplyUpload gives out a place there, the parts go to the storage by its own
// protocol, and CommitUpload makes media of what is stored.
//
// Every ApplyUpload gives out a new place, so it identifies the upload: whatever
// is stored under its key belongs to this upload. The storage answers each part
// with its CRC-64, which is compared with that of the bytes sent, and the whole
// object with another, which must match the combined CRC-64 of the parts. A file
// of one part is put in one call.
//
// Sessions hold the account's key. It signs CommitUpload, and also the requests to
// the storage if the platform gives out no temporary key.
package tencentcos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
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
	_ providers.Renewer        = (*Client)(nil)
)

// New returns the provider over the client's transport. Redirects are not
// followed: they would carry the signature to another host.
func New(client *http.Client) *Client {
	return &Client{http: webapi.Direct(client), now: time.Now}
}

// maxCover bounds a cover image, in bytes. The platform publishes no bound;
// a cover is sent within Begin, so it must not take long.
const maxCover = 20 << 20

// Limits returns the storage's documented bounds and the rates of API v2. API 3.0
// allows 100 calls a second; the lower rate suits both.
func (c *Client) Limits() providers.Limits {
	perMinute := func(count int) providers.Rate { return providers.Rate{Count: count, Per: time.Minute} }
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   1 << 20,
			MaxPart:   5 << 30,
			Preferred: 16 << 20,
			MaxParts:  10_000,
		},
		PartDigest:    hashing.CRC64ECMA,
		Attachments:   []string{coverOption},
		MaxAttachment: maxCover,
		Calls: map[providers.Call]providers.Rate{
			providers.CallBegin: perMinute(100),
			// These share the rate of CommitUpload.
			providers.CallFinish: perMinute(80),
			providers.CallProbe:  perMinute(20),
		},
	}
}

// session is the encoding of Session.Data.
type session struct {
	service

	SessionKey string `json:"session_key"`

	COS      string `json:"cos"`  // scheme and host to connect to
	Host     string `json:"host"` // of the bucket
	Key      string `json:"key"`
	COSID    string `json:"cos_id"`
	COSKey   string `json:"cos_key"`
	COSToken string `json:"cos_token,omitempty"` // with temporary credentials
	UploadID string `json:"upload_id,omitempty"` // "" for a file that is put in one call

	CRC hashing.Digest `json:"crc,omitzero"` // of the whole object, where it was known before
}

func readSession(call string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: call, Message: "the session cannot be read", Err: err}
	}
	return s, nil
}

// inForce reads a session whose credentials have not lapsed.
func (c *Client) inForce(call string, ps providers.Session) (session, error) {
	if c.lapsed(ps) {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: call, Message: "the temporary credentials have lapsed"}
	}
	return readSession(call, ps)
}

func (c *Client) lapsed(ps providers.Session) bool {
	return !ps.Expires.IsZero() && !c.now().Before(ps.Expires)
}

func (s session) encode(expires time.Time) (providers.Session, error) {
	data, err := json.Marshal(s) //nolint:gosec // a session is sealed wherever it rests or travels
	if err != nil {
		return providers.Session{}, &providers.Error{Kind: providers.Rejected, Call: actionApply, Err: err}
	}
	return providers.Session{Data: data, Expires: expires}, nil
}

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

// Begin opens a session at a new place, stores the cover there, and opens a
// multipart upload if the media has more than one part. It may be repeated: what
// is stored but never committed becomes no media.
//
// With storage_path the place is the same for every epoch, and an unfinished
// upload there is resumed, but only if the CRC-64 of the whole object is known. A
// listing names no CRC of the parts, so nothing else could prove them at the end.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	t, a, err := c.application(account, media)
	if err != nil {
		return providers.Begun{}, err
	}
	if err := a.attach(media); err != nil {
		return providers.Begun{}, &providers.Error{Kind: providers.Rejected, Call: actionApply, Err: err}
	}
	p, err := c.apply(ctx, t, a)
	if err != nil {
		return providers.Begun{}, err
	}
	s, expires := t.session(p)
	s.CRC = media.Digest(hashing.CRC64ECMA)
	if a.cover {
		if err := c.putCover(ctx, s, p.coverKey, media.Attachments[coverOption]); err != nil {
			return providers.Begun{}, err
		}
	}
	var begun providers.Begun
	if planOf(media).Count() > 1 {
		if a.path != "" && p.mediaKey == a.path && !s.CRC.IsZero() {
			s.UploadID, begun.Found, err = c.adopt(ctx, s, planOf(media))
		}
		if err == nil && s.UploadID == "" {
			s.UploadID, err = c.initiate(ctx, s, media.ContentType)
		}
		if err != nil {
			return providers.Begun{}, err
		}
	}
	begun.Session, err = s.encode(expires)
	return begun, err
}

// application returns what to ask for the media, apart from its cover.
func (c *Client) application(account providers.Account, media providers.Media) (target, application, error) {
	rejected := func(err error) (target, application, error) {
		return target{}, application{}, &providers.Error{Kind: providers.Rejected, Call: actionApply, Err: err}
	}
	t, err := readAccount(account)
	if err != nil {
		return rejected(err)
	}
	o, err := readOptions(media)
	if err != nil {
		return rejected(err)
	}
	a := application{options: o, name: title(media.Name, o.fileType), size: media.Size}
	if t.storagePath != "" {
		a.path = fmt.Sprintf("%s/%s.%s", t.storagePath, media.Upload, o.fileType)
	}
	return t, a, nil
}

// attach asks for a place for the cover, if there is one.
func (a *application) attach(media providers.Media) error {
	cover, ok := media.Attachments[coverOption]
	if !ok && a.coverType != "" {
		return errors.New("the cover is not at hand")
	}
	if ok {
		a.cover, a.coverType, a.coverSize = true, extension(cover.Name), cover.Size
		if !plain(a.coverType) {
			return &uploads.FieldError{Field: "options." + coverOption, Detail: "has no extension; give the key of an image such as cover.jpg"}
		}
	}
	return nil
}

// session returns the session for a place, and when it lapses.
func (t target) session(p place) (session, time.Time) {
	s := session{
		service: t.service, SessionKey: p.sessionKey,
		Host: p.bucket + ".cos." + p.region + "." + t.cosSuffix, Key: p.mediaKey,
		COSID: t.SecretID, COSKey: t.SecretKey,
	}
	s.COS = t.cosEndpoint
	if s.COS == "" {
		s.COS = "https://" + s.Host
	}
	if p.grant == nil {
		return s, time.Time{}
	}
	s.COSID, s.COSKey, s.COSToken = p.grant.secretID, p.grant.secretKey, p.grant.token
	return s, p.grant.expires
}

// putCover stores the cover in one call.
func (c *Client) putCover(ctx context.Context, s session, key string, cover providers.Attachment) error {
	image, err := cover.Open(ctx)
	if err != nil {
		return &providers.Error{Kind: providers.Transient, Call: callPut, Message: "the cover cannot be read", Err: err}
	}
	defer func() { _ = image.Close() }() // its CRC proves what was read
	sum, err := hashing.NewHash(hashing.CRC64ECMA)
	if err != nil {
		return &providers.Error{Kind: providers.Rejected, Call: callPut, Err: err}
	}
	var loan lent.Loan
	defer loan.Return()
	got, err := c.storage(ctx, s, cosRequest{
		call: callPut, method: http.MethodPut, key: key, body: loan.Reader(io.TeeReader(image, sum)), length: cover.Size,
	})
	if err != nil {
		return err
	}
	loan.Return()
	if sent := hashing.New(hashing.CRC64ECMA, sum.Sum(nil)); got.crc() != sent {
		return &providers.Error{Kind: providers.Mismatch, Call: callPut, Message: fmt.Sprintf("the storage holds the cover with %q, %q was sent", got.crc(), sent)}
	}
	return nil
}

// adopt returns the unfinished upload of the session's key and its parts, or no
// id if there is none or the credentials do not allow looking.
func (c *Client) adopt(ctx context.Context, s session, plan parts.Plan) (string, []parts.Stored, error) {
	id, err := c.openUpload(ctx, s)
	if err == nil && id != "" {
		s.UploadID = id
		var found []parts.Stored
		if found, err = c.listParts(ctx, s, plan); err == nil {
			return id, found, nil
		}
	}
	if kind := providers.KindOf(err); err != nil && kind != providers.Unauthorized && kind != providers.SessionLost {
		return "", nil, err
	}
	return "", nil, nil
}

// PutPart streams one part and compares its CRC-64 with the storage's answer. It
// may be repeated; the last one counts. The receipt is the ETag.
func (c *Client) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := c.inForce(callPart, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	if body.Len() != part.Length {
		return parts.Receipt{}, &providers.Error{Kind: providers.Mismatch, Call: callPart, Message: fmt.Sprintf("part of %d bytes came with %d", part.Length, body.Len())}
	}
	var loan lent.Loan
	defer loan.Return()
	r := cosRequest{
		call: callPut, method: http.MethodPut, key: s.Key,
		body: loan.Reader(lent.Whole(body, part.Length)), length: part.Length,
	}
	if s.UploadID != "" {
		r.call, r.query = callPart, map[string]string{"partNumber": strconv.Itoa(part.Number), "uploadId": s.UploadID}
	}
	got, err := c.storage(ctx, s, r)
	if err != nil {
		return parts.Receipt{}, c.asked(ctx, s, err)
	}
	loan.Return()
	if crc := got.crc(); crc.IsZero() || crc != body.Digest() {
		return parts.Receipt{}, &providers.Error{Kind: providers.Mismatch, Call: r.call, Message: fmt.Sprintf("the storage holds %q, %q was sent", crc, body.Digest())}
	}
	receipt := parts.Receipt{Tag: got.etag()}
	if receipt.Tag == "" && s.UploadID != "" {
		// It is what the part is named by in the end.
		return parts.Receipt{}, &providers.Error{Kind: providers.Transient, Call: r.call, Code: "200", Message: "the answer has no ETag"}
	}
	return receipt, nil
}

// asked returns the refusal of a part whose answer was lost, nil if there is none.
// The storage may refuse a part and close the connection before it has read the
// body; a call without a body then gets the same refusal.
func (c *Client) asked(ctx context.Context, s session, err error) error {
	if s.UploadID == "" || codeOf(err) != "" || ctx.Err() != nil {
		return err
	}
	_, refused := c.storage(ctx, s, cosRequest{
		call: callList, method: http.MethodGet, key: s.Key, query: map[string]string{"uploadId": s.UploadID, "max-parts": "1"},
	})
	if codeOf(refused) != "" {
		return refused
	}
	return err
}

// Finish assembles the parts, compares the CRC-64 of the whole with the combined
// CRC-64 of the parts, and commits. If an earlier call went only part of the way,
// it goes on from there.
func (c *Client) Finish(ctx context.Context, ps providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	s, err := c.inForce(callComplete, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	want, err := s.expected(stored)
	if err != nil {
		return uploads.Asset{}, err
	}
	var check *uploads.AssetCheck
	if s.UploadID != "" {
		got, err := c.assemble(ctx, s, stored)
		switch {
		case codeOf(err) == codeNoSuchKey:
			return uploads.Asset{}, &providers.Error{Kind: providers.SessionLost, Call: callComplete, Code: codeNoSuchUpload, Message: "neither the upload nor the object is there"}
		case err != nil:
			return uploads.Asset{}, err
		case !want.IsZero() && got != want:
			return uploads.Asset{}, &providers.Error{Kind: providers.Mismatch, Call: callComplete, Message: fmt.Sprintf("the storage holds %q, the parts are %q", got, want)}
		case !want.IsZero():
			check = &uploads.AssetCheck{Kind: string(want.Kind), Expected: want.Sum, Got: got.Sum}
		}
	} else if !want.IsZero() && len(stored) == 1 {
		// The object is its one part, whose CRC-64 was compared when it was put.
		check = &uploads.AssetCheck{Kind: string(want.Kind), Expected: want.Sum, Got: stored[0].Digest.Sum}
	}
	asset, err := c.commit(ctx, s.service, s.SessionKey)
	asset.Check = check
	return asset, err
}

// expected returns the CRC-64 that the whole must have: that combined from the
// parts, or the one that was known before; zero if neither is known. If both are,
// they must agree.
func (s session) expected(stored []parts.Stored) (hashing.Digest, error) {
	var combined hashing.Digest
	for i, p := range stored {
		if p.Digest.Kind != hashing.CRC64ECMA {
			return s.CRC, nil
		}
		if i == 0 {
			combined = p.Digest
			continue
		}
		var err error
		if combined, err = hashing.Combine(hashing.CRC64ECMA, combined, p.Digest, p.Length); err != nil {
			return hashing.Digest{}, &providers.Error{Kind: providers.Rejected, Call: callComplete, Err: err}
		}
	}
	if !s.CRC.IsZero() && combined != s.CRC {
		return hashing.Digest{}, &providers.Error{Kind: providers.Mismatch, Call: callComplete, Message: fmt.Sprintf("the parts are %q, the object is %q", combined, s.CRC)}
	}
	return combined, nil
}

// Probe looks for the open upload, then for the object under the session's key. If
// the object exists, a finish whose answer is unknown has assembled it. To learn
// whether its commit arrived, Probe commits again: the session key names the
// media, so that makes no second one. For an account that does not rely on this,
// with repeat_commit set to false, Probe cannot tell.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Outcome, error) {
	t, err := readAccount(account)
	if err != nil {
		return providers.Outcome{}, &providers.Error{Kind: providers.Rejected, Call: callList, Err: err}
	}
	s, err := readSession(callList, ps)
	if err != nil {
		return providers.Outcome{}, err
	}
	s.use(t)
	out, stored, err := c.look(ctx, s, ps, media)
	if err != nil || out.Holding != providers.HoldsUnknown {
		return out, err
	}
	if !t.repeatCommit {
		out.Evidence += "; " + actionCommit + " was not asked: repeat_commit is false"
		return out, nil
	}
	asset, err := c.commit(ctx, s.service, s.SessionKey)
	switch code := codeOf(err); {
	case err == nil:
		out.Holding, out.Asset = providers.HoldsAsset, asset
		out.Evidence += "; " + actionCommit + " answered file id " + asset.ID
	case code == v3NotFound && !stored:
		out.Holding = providers.HoldsNothing
		out.Evidence += "; " + actionCommit + " answered " + code
	case providers.KindOf(err) == providers.SessionLost:
		// The key may be refused because it was used: that would be an asset.
		out.Evidence += "; " + actionCommit + " answered " + code
	default:
		return providers.Outcome{}, err
	}
	return out, nil
}

// Locate names the object in the storage.
func (c *Client) Locate(ps providers.Session) string {
	s, err := readSession(actionCommit, ps)
	if err != nil {
		return "the name of the upload"
	}
	return fmt.Sprintf("the media stored as %s in %s (upload id %q)", s.Key, s.Host, s.UploadID)
}

// use replaces the credentials that the session was opened with by the account's
// current ones.
func (s *session) use(t target) {
	s.SecretID, s.SecretKey = t.SecretID, t.SecretKey
	if s.COSToken == "" {
		s.COSID, s.COSKey = t.SecretID, t.SecretKey
	}
}

// look asks the storage. It answers HoldsUnknown if only the platform can tell;
// stored says that the object exists.
func (c *Client) look(ctx context.Context, s session, ps providers.Session, media providers.Media) (out providers.Outcome, stored bool, err error) {
	out.Holding = providers.HoldsUnknown
	lapsed := func() (providers.Outcome, bool, error) {
		out.Evidence = "the temporary credentials for the storage have lapsed"
		return out, false, nil
	}
	if c.lapsed(ps) {
		return lapsed()
	}
	if s.UploadID != "" {
		found, err := c.listParts(ctx, s, planOf(media))
		switch {
		case err == nil:
			out.Holding, out.Found, out.Listed = providers.HoldsSession, found, true
			out.Evidence = fmt.Sprintf("%s of %s: %d parts", callList, s.Key, len(found))
			return out, false, nil
		case codeOf(err) == codeNoSuchUpload:
			out.Evidence = fmt.Sprintf("%s of %s: no such upload; ", callList, s.Key)
		case providers.KindOf(err) == providers.SessionLost:
			return lapsed()
		default:
			return providers.Outcome{}, false, err
		}
	}
	crc, err := c.head(ctx, s)
	switch {
	case codeOf(err) == codeNoSuchKey:
		out.Holding = providers.HoldsNothing
		out.Evidence += fmt.Sprintf("%s of %s: no such object", callHead, s.Key)
	case s.COSToken != "" && isRefusal(err):
		// The answer to a HEAD has no body that says why. It may be that the keys
		// have lapsed, and then no other look at the storage would tell more.
		out.Evidence += fmt.Sprintf("%s of %s was refused: %v", callHead, s.Key, err)
	case err != nil:
		return providers.Outcome{}, false, err
	default:
		stored = true
		out.Evidence += fmt.Sprintf("%s of %s: %s", callHead, s.Key, crc)
	}
	return out, stored, nil
}

// isRefusal reports whether the storage refused for good, rather than for now.
func isRefusal(err error) bool {
	switch providers.KindOf(err) {
	case providers.SessionLost, providers.Unauthorized, providers.Rejected:
		return true
	default:
		return false
	}
}

// Abort discards the multipart upload and its parts. A file that was put in
// one call may be a finished asset, and stays.
func (c *Client) Abort(ctx context.Context, ps providers.Session) error {
	s, err := c.inForce(callAbort, ps)
	if err == nil && s.UploadID != "" {
		_, err = c.storage(ctx, s, cosRequest{call: callAbort, method: http.MethodDelete, key: s.Key, query: map[string]string{"uploadId": s.UploadID}})
	}
	if err != nil && providers.KindOf(err) != providers.SessionLost {
		return err
	}
	return nil
}

// Renew asks for fresh temporary credentials for the session's place, by its
// session key; the cover is stored already. The platform's documents do not say
// that it gives any. If it gives out another place instead, that one is left alone
// and the session lapses in its time. A session without temporary credentials does
// not lapse, and gets the account's current key.
func (c *Client) Renew(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Session, error) {
	s, err := readSession(actionApply, ps)
	if err != nil {
		return providers.Session{}, err
	}
	t, a, err := c.application(account, media)
	if err != nil {
		return providers.Session{}, err
	}
	if s.COSToken == "" {
		s.use(t)
		return s.encode(time.Time{})
	}
	if !t.renew {
		return providers.Session{}, &providers.Error{Kind: providers.Rejected, Call: actionApply, Message: "the account's renew is false"}
	}
	a.sessionKey = s.SessionKey
	p, err := c.apply(ctx, t, a)
	if err != nil {
		return providers.Session{}, err
	}
	fresh, expires := t.session(p)
	if p.grant == nil || fresh.Key != s.Key || fresh.Host != s.Host || p.sessionKey != s.SessionKey {
		return providers.Session{}, &providers.Error{Kind: providers.Rejected, Call: actionApply, Message: "the platform opened another session instead of renewing this one"}
	}
	fresh.UploadID, fresh.CRC = s.UploadID, s.CRC
	return fresh.encode(expires)
}
