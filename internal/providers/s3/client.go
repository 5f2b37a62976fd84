// Package s3 puts media into any S3-compatible bucket.
//
// An object of one part is put in one call, so Begin and Finish make none; a
// larger one is a multipart upload. Each part streams, followed by its
// CRC-64/NVME, and counts as stored once the bucket has answered with the same
// checksum. Objects carry the upload's id and epoch as metadata, so after an
// unknown outcome Probe can tell our object from another one under the same key.
//
// The account's key must be allowed to put, read and list: without the right to
// list, a bucket answers that a missing object is forbidden, and Probe cannot
// tell.
package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// The API's names of the calls.
const (
	callCreate   = "CreateMultipartUpload"
	callPut      = "PutObject"
	callPart     = "UploadPart"
	callComplete = "CompleteMultipartUpload"
	callHead     = "HeadObject"
	callList     = "ListParts"
	callAbort    = "AbortMultipartUpload"
)

// identityKey is the metadata that holds "<upload id>/<epoch>".
const identityKey = "Mediaferry-Upload"

// maxClients bounds the cache of clients; an account needs one.
const maxClients = 256

// Client is the provider. It holds nothing of an upload.
type Client struct {
	transport http.RoundTripper

	mu      sync.Mutex
	clients map[clientKey]*minio.Core
}

// clientKey is what makes one minio client differ from another.
type clientKey struct {
	endpoint, region, accessKey, secretKey string
	insecure                               bool
	lookup                                 minio.BucketLookupType
}

var (
	_ providers.Provider       = (*Client)(nil)
	_ providers.AccountChecker = (*Client)(nil)
	_ providers.MediaChecker   = (*Client)(nil)
)

// New returns the provider over the transport.
func New(transport http.RoundTripper) *Client {
	return &Client{transport: noting{transport}, clients: make(map[clientKey]*minio.Core)}
}

// Limits returns those of Amazon S3, which compatible servers share.
func (c *Client) Limits() providers.Limits {
	return providers.Limits{
		Limits: parts.Limits{
			MinPart:   5 << 20,
			MaxPart:   5 << 30,
			Preferred: 16 << 20,
			MaxParts:  10_000,
			MaxSize:   5 << 40,
		},
		PartDigest:  hashing.CRC64NVME,
		HoldUpTo:    2 << 20,
		UniqueNames: true,
	}
}

// session is the encoding of Session.Data.
type session struct {
	place
	Key         string `json:"key"`
	UploadID    string `json:"upload_id,omitempty"` // "" for an object that is put in one call
	Identity    string `json:"identity"`
	ContentType string `json:"content_type,omitempty"`
}

// Begin opens a multipart upload. For an object of one part it makes no call. If
// repeated, it opens another upload; the bucket's lifecycle rule for unfinished
// uploads removes the first one.
func (c *Client) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	s, err := c.describe(callCreate, account, media)
	if err != nil {
		return providers.Begun{}, err
	}
	if planOf(media).Count() > 1 {
		core, err := c.core(callCreate, s.place)
		if err != nil {
			return providers.Begun{}, err
		}
		opts := s.options()
		opts.UserMetadata["X-Amz-Checksum-Algorithm"] = minio.ChecksumCRC64NVME.String()
		opts.UserMetadata["X-Amz-Checksum-Type"] = minio.ChecksumFullObjectMode.String()
		ctx, told := note(ctx)
		s.UploadID, err = core.NewMultipartUpload(ctx, s.Bucket, s.Key, opts)
		if err != nil {
			return providers.Begun{}, classify(callCreate, err, told)
		}
		if s.UploadID == "" { // without one the session would be that of an object of one part
			return providers.Begun{}, &providers.Error{Kind: providers.Transient, Call: callCreate, Code: "200", Message: "the answer names no UploadId"}
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return providers.Begun{}, &providers.Error{Kind: providers.Rejected, Call: callCreate, Err: err}
	}
	return providers.Begun{Session: providers.Session{Data: data}}, nil
}

// PutPart streams one part, followed by its checksum, and compares the bucket's
// answer with it. It may be repeated; the last one counts.
func (c *Client) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	s, err := readSession(callPart, ps)
	if err != nil {
		return parts.Receipt{}, err
	}
	core, err := c.core(callPart, s.place)
	if err != nil {
		return parts.Receipt{}, err
	}
	if body.Len() != part.Length {
		return parts.Receipt{}, &providers.Error{Kind: providers.Mismatch, Call: callPart, Message: fmt.Sprintf("part of %d bytes came with %d", part.Length, body.Len())}
	}
	call := callPart
	if s.UploadID == "" {
		call = callPut
	}
	var loan lent.Loan
	defer loan.Return()
	ctx, told := note(ctx)
	held := body.Bytes()
	if held != nil {
		told.whole, told.length = func() io.ReadCloser { return loan.Reader(bytes.NewReader(held)) }, part.Length
	}
	got, err := put(ctx, core, s, part, body, held, &loan)
	if err != nil && call == callPart && unanswered(err) && ctx.Err() == nil {
		// A server may refuse a part and close the connection before it has read the
		// body. Its answer is then lost, but a call without a body gets the same one.
		_, asked := core.ListObjectParts(ctx, s.Bucket, s.Key, s.UploadID, 0, 1)
		if asked != nil && !unanswered(asked) {
			err = asked
		}
	}
	if err != nil {
		return parts.Receipt{}, classify(call, err, told)
	}
	sent := base64.StdEncoding.EncodeToString(body.Digest().Bytes())
	got.etag = webapi.Tag(got.etag)
	switch {
	case got.etag == "":
		// A bucket names what it stores, so something on the way has answered.
		return parts.Receipt{}, &providers.Error{Kind: providers.Transient, Call: call, Code: "200", Message: "the answer has no ETag"}
	case got.crc == "" && s.Unconfirmed:
	case got.crc == "":
		return parts.Receipt{}, &providers.Error{
			Kind: providers.Rejected, Call: call,
			Message: "the bucket does not confirm CRC-64/NVME; set require_checksum to false to trust it without",
		}
	case got.crc != sent:
		return parts.Receipt{}, &providers.Error{Kind: providers.Mismatch, Call: call, Message: fmt.Sprintf("the bucket holds checksum %s, %q was sent", webapi.Words(got.crc), sent)}
	}
	return got.receipt(), nil
}

// put sends the part, or the whole object where it is one part.
func put(ctx context.Context, core *minio.Core, s session, part parts.Part, body providers.Body, held []byte, loan *lent.Loan) (tag, error) {
	if held != nil {
		return putHeld(ctx, core, s, part, loan.Reader(bytes.NewReader(held)), body.Digest())
	}
	if s.UploadID == "" {
		opts := s.options()
		opts.Checksum = minio.ChecksumCRC64NVME
		info, err := core.PutObject(ctx, s.Bucket, s.Key, loan.Reader(body), part.Length, "", "", opts)
		return tag{etag: info.ETag, crc: info.ChecksumCRC64NVME}, err //nolint:wrapcheck // classify does
	}
	trailer := make(http.Header, 1)
	// The place is kept with a sum of the same length; the length is sent ahead.
	trailer.Set(minio.ChecksumCRC64NVME.Key(), base64.StdEncoding.EncodeToString(make([]byte, hashing.CRC64NVME.Size())))
	stored, err := core.PutObjectPart(ctx, s.Bucket, s.Key, s.UploadID, part.Number,
		loan.Reader(&trailing{body: body, trailer: trailer}), part.Length,
		minio.PutObjectPartOptions{Trailer: trailer, DisableContentSha256: true})
	return tag{etag: stored.ETag, crc: stored.ChecksumCRC64NVME}, err //nolint:wrapcheck // classify does
}

// putHeld is put for a part in memory: the checksum goes first, and the bytes
// travel without framing.
func putHeld(ctx context.Context, core *minio.Core, s session, part parts.Part, held io.Reader, digest hashing.Digest) (tag, error) {
	checksum := base64.StdEncoding.EncodeToString(digest.Bytes())
	if s.UploadID == "" {
		opts := s.options()
		opts.UserMetadata[minio.ChecksumCRC64NVME.Key()] = checksum
		info, err := core.PutObject(ctx, s.Bucket, s.Key, held, part.Length, "", "", opts)
		return tag{etag: info.ETag, crc: info.ChecksumCRC64NVME}, err //nolint:wrapcheck // classify does
	}
	stored, err := core.PutObjectPart(ctx, s.Bucket, s.Key, s.UploadID, part.Number, held, part.Length,
		minio.PutObjectPartOptions{
			CustomHeader: http.Header{minio.ChecksumCRC64NVME.Key(): {checksum}}, DisableContentSha256: true,
		})
	return tag{etag: stored.ETag, crc: stored.ChecksumCRC64NVME}, err //nolint:wrapcheck // classify does
}

// trailing puts the body's digest into the trailer when the body ends, which is
// just before the trailer is written.
type trailing struct {
	body    providers.Body
	trailer http.Header
}

func (r *trailing) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if errors.Is(err, io.EOF) {
		r.trailer.Set(minio.ChecksumCRC64NVME.Key(), base64.StdEncoding.EncodeToString(r.body.Digest().Bytes()))
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// Finish completes the multipart upload. An object that was put in one call is
// finished already: its receipt says what is there.
func (c *Client) Finish(ctx context.Context, ps providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	s, err := readSession(callComplete, ps)
	if err != nil {
		return uploads.Asset{}, err
	}
	if s.UploadID == "" {
		if len(stored) != 1 {
			return uploads.Asset{}, &providers.Error{Kind: providers.Rejected, Call: callComplete, Message: fmt.Sprintf("%d parts are named of an object of one", len(stored))}
		}
		t := readTag(stored[0].Receipt)
		asset := s.asset(t.etag, t.crc)
		if t.crc != "" { // it was compared when the object was put
			asset.Check = &uploads.AssetCheck{Kind: string(hashing.CRC64NVME), Expected: stored[0].Digest.Sum, Got: sumOf(t.crc)}
		}
		return asset, nil
	}
	core, err := c.core(callComplete, s.place)
	if err != nil {
		return uploads.Asset{}, err
	}
	list := make([]minio.CompletePart, len(stored))
	sizes := make([]minio.ObjectPart, len(stored))
	for i, p := range stored {
		t := readTag(p.Receipt)
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: t.etag, ChecksumCRC64NVME: t.crc}
		sizes[i] = minio.ObjectPart{PartNumber: p.Number, Size: p.Length, ChecksumCRC64NVME: t.crc}
	}
	slices.SortFunc(list, func(a, b minio.CompletePart) int { return a.PartNumber - b.PartNumber })
	slices.SortFunc(sizes, func(a, b minio.ObjectPart) int { return a.PartNumber - b.PartNumber })
	var opts minio.PutObjectOptions
	// The checksum of the whole is combined from those of the parts, so the bucket
	// can check what it assembled.
	whole, err := minio.ChecksumCRC64NVME.FullObjectChecksum(sizes)
	if err == nil {
		opts.UserMetadata = map[string]string{
			"X-Amz-Checksum-Type":         minio.ChecksumFullObjectMode.String(),
			minio.ChecksumCRC64NVME.Key(): whole.Encoded(),
		}
	}
	ctx, told := note(ctx)
	info, err := core.CompleteMultipartUpload(ctx, s.Bucket, s.Key, s.UploadID, list, opts)
	if err != nil {
		return uploads.Asset{}, classify(callComplete, err, told)
	}
	asset := s.asset(info.ETag, info.ChecksumCRC64NVME)
	if want := whole.Encoded(); want != "" && info.ChecksumCRC64NVME != "" {
		if want != info.ChecksumCRC64NVME {
			return uploads.Asset{}, &providers.Error{
				Kind: providers.Mismatch, Call: callComplete,
				Message: fmt.Sprintf("the bucket made an object with checksum %s, its parts make %s", info.ChecksumCRC64NVME, want),
			}
		}
		asset.Check = &uploads.AssetCheck{Kind: string(hashing.CRC64NVME), Expected: sumOf(want), Got: sumOf(info.ChecksumCRC64NVME)}
	}
	return asset, nil
}

// sumOf returns a checksum as we write it.
func sumOf(encoded string) string {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return encoded
	}
	return hex.EncodeToString(raw)
}

// Probe looks for our object under the key, then for the parts of the upload.
// An object of one part that is not there leaves nothing to finish.
func (c *Client) Probe(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Outcome, error) {
	s, err := c.describe(callHead, account, media)
	if err != nil {
		return providers.Outcome{}, err
	}
	if opened, err := readSession(callHead, ps); err == nil {
		s.UploadID, s.Key, s.Bucket = opened.UploadID, opened.Key, opened.Bucket
	}
	core, err := c.core(callHead, s.place)
	if err != nil {
		return providers.Outcome{}, err
	}
	ctx, told := note(ctx)
	info, err := core.StatObject(ctx, s.Bucket, s.Key, minio.StatObjectOptions{Checksum: true})
	missing := minio.ToErrorResponse(err).Code == minio.NoSuchKey
	if err != nil && !missing {
		return providers.Outcome{}, classify(callHead, err, told)
	}
	// Of whatever epoch: all of them bring the same bytes.
	if identity := info.UserMetadata[identityKey]; strings.HasPrefix(identity, media.Upload.String()+"/") && !missing {
		return providers.Outcome{
			Holding: providers.HoldsAsset, Asset: s.asset(info.ETag, info.ChecksumCRC64NVME),
			Evidence: fmt.Sprintf("%s %s/%s: the object is of %s", callHead, s.Bucket, s.Key, identity),
		}, nil
	}
	evidence := fmt.Sprintf("%s %s/%s: no object of %s", callHead, s.Bucket, s.Key, s.Identity)
	if s.UploadID == "" {
		return providers.Outcome{Holding: providers.HoldsNothing, Evidence: evidence}, nil
	}
	found, err := listParts(ctx, core, s, planOf(media))
	switch {
	case minio.ToErrorResponse(err).Code == minio.NoSuchUpload:
		return providers.Outcome{Holding: providers.HoldsNothing, Evidence: evidence + "; " + callList + ": no such upload"}, nil
	case err != nil:
		return providers.Outcome{}, classify(callList, err, told)
	}
	return providers.Outcome{
		Holding: providers.HoldsSession, Found: found, Listed: true,
		Evidence: fmt.Sprintf("%s; %s: %d parts", evidence, callList, len(found)),
	}, nil
}

// Locate names the object and the multipart upload.
func (c *Client) Locate(ps providers.Session) string {
	s, err := readSession(callHead, ps)
	if err != nil {
		return "the name of the upload"
	}
	return fmt.Sprintf("object %s/%s of %s (upload id %q)", s.Bucket, s.Key, s.Identity, s.UploadID)
}

// errNoNextPage is a list that says that it goes on, and not where.
var errNoNextPage = errors.New("the list goes on and does not say where")

// listParts returns the stored parts that are parts of the plan, by number.
func listParts(ctx context.Context, core *minio.Core, s session, plan parts.Plan) ([]parts.Stored, error) {
	var found []parts.Stored
	var seen parts.Set
	for marker := 0; ; {
		page, err := core.ListObjectParts(ctx, s.Bucket, s.Key, s.UploadID, marker, 1000)
		if err != nil {
			return nil, err //nolint:wrapcheck // classify does
		}
		for _, p := range page.ObjectParts {
			if p.PartNumber < 1 || p.PartNumber > plan.Count() || plan.Part(p.PartNumber).Length != p.Size || seen.Has(p.PartNumber) {
				continue
			}
			seen.Add(p.PartNumber)
			t := tag{etag: strings.Trim(p.ETag, `"`), crc: p.ChecksumCRC64NVME}
			found = append(found, parts.Stored{Part: plan.Part(p.PartNumber), Receipt: t.receipt()})
		}
		switch {
		case !page.IsTruncated, len(found) == plan.Count():
			return found, nil
		case page.NextPartNumberMarker <= marker:
			return nil, errNoNextPage
		}
		marker = page.NextPartNumberMarker
	}
}

// Abort discards the multipart upload and its parts. An object that was put in
// one call is a finished asset and stays.
func (c *Client) Abort(ctx context.Context, ps providers.Session) error {
	s, err := readSession(callAbort, ps)
	if err != nil {
		return err
	}
	if s.UploadID == "" {
		return nil
	}
	core, err := c.core(callAbort, s.place)
	if err != nil {
		return err
	}
	ctx, told := note(ctx)
	err = core.AbortMultipartUpload(ctx, s.Bucket, s.Key, s.UploadID)
	if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
		return classify(callAbort, err, told)
	}
	return nil
}

// describe is the session of the media before anything is opened.
func (c *Client) describe(call string, account providers.Account, media providers.Media) (session, error) {
	p, err := readAccount(account)
	if err == nil {
		err = c.CheckMedia(media)
	}
	if err != nil {
		return session{}, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	return session{
		place: p, Key: p.keyOf(media), ContentType: media.ContentType,
		Identity: fmt.Sprintf("%s/%d", media.Upload, media.Epoch),
	}, nil
}

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

func readSession(call string, ps providers.Session) (session, error) {
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		return session{}, &providers.Error{Kind: providers.SessionLost, Call: call, Message: "the session cannot be read", Err: err}
	}
	return s, nil
}

// options are what an object is created with.
func (s session) options() minio.PutObjectOptions {
	return minio.PutObjectOptions{
		ContentType:          s.ContentType,
		UserMetadata:         map[string]string{identityKey: s.Identity},
		DisableContentSha256: true, // the checksum covers the bytes, at a third of the cost
	}
}

func (s session) asset(etag, crc string) uploads.Asset {
	asset := uploads.Asset{ID: s.Bucket + "/" + s.Key, URL: s.url(s.Key), Detail: map[string]string{"etag": etag}}
	if raw, err := base64.StdEncoding.DecodeString(crc); err == nil && len(raw) == hashing.CRC64NVME.Size() {
		asset.Detail["checksum"] = hashing.New(hashing.CRC64NVME, raw).String()
	}
	return asset
}

// core returns the client for the place. Clients are cached, since each keeps
// state; all share one transport and its connections.
func (c *Client) core(call string, p place) (*minio.Core, error) {
	key := clientKey{
		endpoint: p.Endpoint, region: p.Region, accessKey: p.AccessKey, secretKey: p.SecretKey,
		insecure: p.Insecure, lookup: minio.BucketLookupAuto,
	}
	if p.PathStyle != nil {
		key.lookup = minio.BucketLookupDNS
		if *p.PathStyle {
			key.lookup = minio.BucketLookupPath
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if core := c.clients[key]; core != nil {
		return core, nil
	}
	core, err := minio.NewCore(p.Endpoint, &minio.Options{
		Creds:           credentials.NewStaticV4(p.AccessKey, p.SecretKey, ""),
		Secure:          !p.Insecure,
		Transport:       c.transport,
		Region:          p.Region, // set, so that the bucket's location is never asked for
		BucketLookup:    key.lookup,
		TrailingHeaders: true,
		MaxRetries:      1, // callers retry
	})
	if err != nil {
		return nil, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	if len(c.clients) >= maxClients {
		clear(c.clients) // keys were changed many times; those in use come back
	}
	c.clients[key] = core
	return core, nil
}

// tag is what a receipt's tag holds: the ETag, and the checksum in Base64 if
// the bucket confirmed one.
type tag struct{ etag, crc string }

func (t tag) receipt() parts.Receipt {
	if t.crc == "" {
		return parts.Receipt{Tag: t.etag, Unconfirmed: true}
	}
	return parts.Receipt{Tag: t.etag + " " + t.crc}
}

func readTag(r parts.Receipt) tag {
	etag, crc, _ := strings.Cut(r.Tag, " ")
	return tag{etag: etag, crc: crc}
}

// exchange is what a caller needs of a request and its answer but minio-go does
// not pass on.
type exchange struct {
	retryAfter    time.Duration // 0 if the bucket did not say
	authorization string        // which no error may show
	// whole makes the body of a request anew, where that is a part in memory. What
	// minio-go wraps around it hides that from the connection.
	whole  func() io.ReadCloser
	length int64 // of it
}

// noting is a transport that notes the exchange for a caller that asked for it.
type noting struct{ http.RoundTripper }

// maxAnswer bounds what is read of an answer, in bytes: a page of a thousand parts
// takes about 300 KiB.
const maxAnswer = 1 << 20

// bounded is an answer that may not have more bytes than are left.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errors.New("the answer does not end")
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

type exchangeKey struct{}

// note returns a context for one call, and where its last exchange will be noted.
func note(ctx context.Context) (context.Context, *exchange) {
	told := new(exchange)
	return context.WithValue(ctx, exchangeKey{}, told), told
}

func (t noting) RoundTrip(req *http.Request) (*http.Response, error) {
	told, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if ok && told.whole != nil && req.Method == http.MethodPut && req.ContentLength == told.length {
		req = req.WithContext(req.Context()) // a copy
		_ = req.Body.Close()
		req.Body = told.whole()
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err //nolint:wrapcheck // a transport's error passes as it is
	}
	// minio-go reads an answer to its end, wherever that is.
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	if ok {
		told.retryAfter, told.authorization = webapi.RetryAfter(resp.Header), req.Header.Get("Authorization")
	}
	return resp, nil
}
