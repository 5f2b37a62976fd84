// Package cdnetworks speaks the protocol of CDNetworks' (Wangsu's) video service:
// getUploadToken at its control API, then WCS, the storage that the answer names,
// by one form upload or by mkblk, bput and mkfile.
//
// A part is a block of 4 MiB, the piece that the platform's hash of a file is
// made of. It streams: the platform answers each chunk with its CRC-32, which is
// compared with that of the bytes sent. The part's SHA-1, taken in the same pass,
// comes back at Finish, where the hash in mkfile's answer is compared with ours.
// Only that comparison proves a file: the platform assembles whatever it is told
// to and answers 200.
//
// The platform lists no blocks, so a new session finds none again. A session is
// prolonged by a new token for the same breakpoint id, which is made of the
// upload and the epoch. So each epoch has its own video, and only that epoch's
// finish can have made it.
package cdnetworks

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// Client is the provider. It holds nothing of an account or an upload.
type Client struct {
	http *http.Client
	now  func() time.Time // the clock that calls are signed by and tokens lapse by
}

var (
	_ providers.Provider       = (*Client)(nil)
	_ providers.AccountChecker = (*Client)(nil)
	_ providers.MediaChecker   = (*Client)(nil)
	_ providers.Renewer        = (*Client)(nil)
)

// New returns the provider over the client's transport. Redirects are not
// followed: they would carry the token to another host.
func New(client *http.Client) *Client {
	return &Client{http: webapi.Direct(client), now: time.Now}
}

// controlRate is the rate that the platform recommends for each call of its
// control API; it is said to refuse above 300.
const (
	controlRate = 30
	controlPer  = 5 * time.Minute
)

// Limits returns the documented bounds. The platform publishes none for the size
// of a file, the number of blocks, or the rate of calls to the storage. Each token
// says how long it lasts.
func (c *Client) Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   blockSize,
			MaxPart:   blockSize,
			Sizes:     []int64{blockSize},
			Preferred: blockSize,
		},
		PartDigest: hashing.SHA1,
		Calls: map[providers.Call]providers.Rate{
			providers.CallBegin: {Count: controlRate, Per: controlPer},
			providers.CallProbe: {Count: controlRate, Per: controlPer},
		},
	}
}

// session is the encoding of Session.Data.
type session struct {
	UploadURL string   `json:"upload_url"` // scheme and host
	Token     string   `json:"token"`
	FileKey   string   `json:"file_key"`
	VideoID   string   `json:"video_id"`
	Bucket    string   `json:"bucket,omitempty"`
	FileID    string   `json:"file_id"` // our breakpoint id
	Batch     string   `json:"batch"`   // the same on every call of the file
	Name      string   `json:"name"`
	Form      bool     `json:"form,omitempty"` // the one part travels by form upload
	Chunk     int64    `json:"chunk"`          // bytes
	KeyStyle  keyStyle `json:"key_style"`
	Playback  string   `json:"playback,omitempty"`
}

func (s session) asset(hash string) uploads.Asset {
	asset := uploads.Asset{ID: s.VideoID, Detail: map[string]string{"file_key": s.FileKey}}
	if s.Bucket != "" {
		asset.Detail["bucket"] = s.Bucket
	}
	if hash != "" {
		asset.Detail["hash"] = hash
	}
	if s.Playback != "" {
		asset.URL = s.Playback + "/" + escapeKey(s.FileKey)
	}
	return asset
}

func readSession(call string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: call, Message: "the session cannot be read", Err: err}
	}
	return s, nil
}

func (s session) encode(expires time.Time) (providers.Session, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return providers.Session{}, &providers.Error{Kind: providers.Rejected, Call: callToken, Err: err}
	}
	return providers.Session{Data: data, Expires: expires}, nil
}

// fileID returns the breakpoint id of an epoch: 32 letters and digits at most,
// all that the platform allows, and so not the upload's id as we print it.
func fileID(upload uploads.ID, epoch int) string {
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(upload[:])
	return strings.ToLower(text) + "x" + strconv.Itoa(epoch)
}

// Begin asks for an upload token. It may be repeated: the breakpoint id is the
// same within an epoch, so the platform means the same video by it.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	s, expires, err := c.open(ctx, account, media, fileID(media.Upload, media.Epoch))
	if err != nil {
		return providers.Begun{}, err
	}
	ps, err := s.encode(expires)
	if err != nil {
		return providers.Begun{}, err
	}
	return providers.Begun{Session: ps, PartSize: blockSize}, nil
}

// open gets an upload token for the breakpoint id and makes a session of it.
func (c *Client) open(ctx context.Context, account providers.Account, media providers.Media, id string) (session, time.Time, error) {
	fail := func(err error) (session, time.Time, error) { return session{}, time.Time{}, err }
	rejected := func(err error) (session, time.Time, error) {
		return fail(&providers.Error{Kind: providers.Rejected, Call: callToken, Err: err})
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
	batch, err := uuid.NewRandom()
	if err != nil {
		return fail(&providers.Error{Kind: providers.Transient, Call: callToken, Err: err})
	}
	form := o.form()
	form.Set("originFileName", media.Name)
	form.Set("fileId", id)
	g, err := c.uploadToken(ctx, t, form)
	if err != nil {
		return fail(err)
	}
	granted, err := readPolicy(string(g.UploadToken))
	if err != nil {
		granted = policy{} // a token is the platform's own; one of another make gets the defaults
	}
	return session{
		UploadURL: string(g.UploadURL), Token: string(g.UploadToken), FileKey: string(g.FileKey), VideoID: string(g.VideoID), Bucket: string(g.BucketName),
		FileID: id, Batch: batch.String(), Name: media.Name,
		// A form upload is a finished video at once. Parts may be sent again, so it
		// is for tokens that let a later one replace it.
		Form:  media.Size <= blockSize && granted.replaces(),
		Chunk: t.chunk, KeyStyle: t.keyStyle, Playback: t.playback,
	}, granted.expires(c.now()), nil
}

// Renew gets a new token for the same video. Blocks are tied to the batch, not
// to the token, so what is stored stays. It is a lost session if the platform
// answers with another video.
func (c *Client) Renew(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Session, error) {
	old, err := readSession(callToken, ps)
	if err != nil {
		return providers.Session{}, err
	}
	s, expires, err := c.open(ctx, account, media, old.FileID)
	if err != nil {
		return providers.Session{}, err
	}
	if s.VideoID != old.VideoID || s.FileKey != old.FileKey {
		return providers.Session{}, &providers.Error{
			Kind: providers.SessionLost, Call: callToken,
			Message: fmt.Sprintf("video %s was being uploaded, the same breakpoint id is now for %s", old.VideoID, s.VideoID),
		}
	}
	s.Batch, s.Form = old.Batch, old.Form
	return s.encode(expires)
}

// PutPart streams one block, or the whole file where it goes by form upload,
// and compares what the platform answers of the bytes. It may be repeated: a
// block that is sent again gets another ctx, and the file is made of those
// that Finish names. The receipt is the ctx, or the file's hash.
func (c *Client) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := readSession(callBlock, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	if body.Len() != part.Length {
		return parts.Receipt{}, mismatch(callBlock, "part %d of %d bytes came with %d", part.Number, part.Length, body.Len())
	}
	plane := c.plane(s, ps.Expires)
	var tag string
	if s.Form {
		tag, err = plane.putForm(ctx, body)
	} else {
		tag, err = plane.putBlock(ctx, part, body)
	}
	if err != nil {
		return parts.Receipt{}, err
	}
	return parts.Receipt{Tag: tag}, nil
}

// finishBody reads the end of a body after its last byte was sent: only then is
// the digest known, and a request of known length need not read so far.
func finishBody(body providers.Body) hashing.Digest {
	_, _ = body.Read(make([]byte, 1)) // io.EOF; the length was checked
	return body.Digest()
}

// Finish makes the file of its blocks and compares the platform's hash with ours;
// only that proves the file. A file that went by form upload is finished already,
// and its hash was compared then. A second mkfile of the same blocks makes the
// same file, or is refused because the file exists.
func (c *Client) Finish(ctx context.Context, ps providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	s, err := readSession(callFile, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	ordered := slices.SortedFunc(slices.Values(stored), func(a, b parts.Stored) int { return a.Number - b.Number })
	var size int64
	digests := make([]hashing.Digest, len(ordered))
	tags := make([]string, len(ordered))
	for i, p := range ordered {
		digests[i], tags[i] = p.Digest, p.Receipt.Tag
		size += p.Length
	}
	want := etag(digests)
	if want == "" {
		// What cannot be proved afterwards is not assembled.
		return uploads.Asset{}, &providers.Error{
			Kind: providers.SessionLost, Call: callFile,
			Message: fmt.Sprintf("the SHA-1 of some of %d parts is not known, they must be sent again", len(ordered)),
		}
	}
	hash := tags[0]
	if !s.Form {
		if hash, err = c.plane(s, ps.Expires).makeFile(ctx, size, strings.Join(tags, ",")); err != nil {
			return uploads.Asset{}, err
		}
	}
	if hash != want {
		e := mismatch(callFile, "video %s has hash %s, its parts have %s", s.VideoID, webapi.Words(hash), want)
		e.Err = providers.ErrWrongAsset
		return uploads.Asset{}, e
	}
	asset := s.asset(hash)
	asset.Check = &uploads.AssetCheck{Kind: "wcs hash", Expected: want, Got: hash}
	return asset, nil
}

// expiryMargin is how long before its end a token counts as lapsed for the next
// call.
const expiryMargin = time.Minute

// Probe looks for the video that the platform named for our breakpoint id. Its
// size is compared too, but the id is what identifies it.
//
// A video that is not listed may be finished all the same, since the list may
// lag. While the token is valid that does no harm: mkfile may be called again,
// because it can only make the same file under the same key. Once the token has
// lapsed no mkfile takes effect, and a video that is not listed a while later does
// not exist.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Outcome, error) {
	t, err := readAccount(account)
	if err != nil {
		return providers.Outcome{}, &providers.Error{Kind: providers.Rejected, Call: callList, Err: err}
	}
	s, err := readSession(callList, ps)
	expires := ps.Expires
	if err != nil {
		// Without a session the breakpoint id still leads to the video; nothing can
		// be finished in it.
		if s, _, err = c.open(ctx, account, media, fileID(media.Upload, media.Epoch)); err != nil {
			return providers.Outcome{}, err
		}
		expires = time.Time{}
	}
	v, listed, err := c.video(ctx, t, s.VideoID)
	if err != nil {
		return providers.Outcome{}, err
	}
	out := providers.Outcome{Evidence: fmt.Sprintf("%s for video %s: not listed", callList, s.VideoID)}
	if listed {
		out.Evidence = fmt.Sprintf("%s for video %s: %s bytes, videoState %s, transcodeState %s",
			callList, s.VideoID, v.Size, webapi.Words(string(v.State)), webapi.Words(string(v.Transcode)))
	}
	now := c.now()
	switch {
	case listed && v.Size.value() == media.Size:
		out.Holding, out.Asset = providers.HoldsAsset, s.asset("")
	case listed:
		out.Holding = providers.HoldsUnknown
		out.Evidence += fmt.Sprintf("; it should have %d bytes", media.Size)
	case expires.IsZero():
		// The breakpoint id leads to a video only while that is unfinished.
		out.Holding = providers.HoldsUnknown
		out.Evidence += "; no session is known, and a finished video may be another one"
	case now.Before(expires.Add(-expiryMargin)):
		out.Holding = providers.HoldsSession
	case now.Before(expires.Add(t.listDelay)):
		out.Holding = providers.HoldsUnknown
		out.Evidence += fmt.Sprintf("; the token lapses at %s, and the list may lag", expires.UTC().Format(time.RFC3339))
	default:
		out.Holding = providers.HoldsNothing
	}
	return out, nil
}

// Locate names the video and its key.
func (c *Client) Locate(ps providers.Session) string {
	s, err := readSession(callList, ps)
	if err != nil {
		return "the name of the upload"
	}
	return fmt.Sprintf("video %s with file key %s (breakpoint id %s)", s.VideoID, s.FileKey, s.FileID)
}

// Abort does nothing: the platform has no call to discard blocks. It purges those
// that no file was made of.
func (c *Client) Abort(context.Context, providers.Session) error { return nil }

func mismatch(call, format string, args ...any) *providers.Error {
	return &providers.Error{Kind: providers.Mismatch, Call: call, Message: fmt.Sprintf(format, args...)}
}
