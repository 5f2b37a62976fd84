package tencentcos

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the storage checks MD5 of a part list
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
)

// The storage's names of its calls.
const (
	callPut         = "PutObject"
	callInitiate    = "InitiateMultipartUpload"
	callPart        = "UploadPart"
	callList        = "ListParts"
	callListUploads = "ListMultipartUploads"
	callComplete    = "CompleteMultipartUpload"
	callHead        = "HeadObject"
	callAbort       = "AbortMultipartUpload"
)

// Codes of the storage that mean more than a refusal.
const (
	codeNoSuchUpload = "NoSuchUpload"
	codeNoSuchKey    = "NoSuchKey"
)

const (
	headerCRC       = "X-Cos-Hash-Crc64ecma"
	headerRequestID = "X-Cos-Request-Id"
	headerToken     = "X-Cos-Security-Token" //nolint:gosec // the name of a header
)

// cosRequest is one request for an object, or for the bucket where the key is
// empty.
type cosRequest struct {
	call   string
	method string
	key    string
	query  map[string]string
	header map[string]string
	body   io.ReadCloser // nil for none
	length int64         // bytes of the body
}

// cosAnswer is the answer to a request that succeeded.
type cosAnswer struct {
	header http.Header
	body   []byte
}

// crc returns the CRC-64 that the storage answered, zero if it did not.
func (a cosAnswer) crc() hashing.Digest {
	n, err := strconv.ParseUint(a.header.Get(headerCRC), 10, 64)
	if err != nil {
		return hashing.Digest{}
	}
	return hashing.New(hashing.CRC64ECMA, binary.BigEndian.AppendUint64(nil, n))
}

// etag returns the ETag without its quotes, "" if there is none.
func (a cosAnswer) etag() string { return webapi.Tag(a.header.Get("Etag")) }

// storage makes one request to the storage, signed on the spot.
func (c *Client) storage(ctx context.Context, s session, r cosRequest) (cosAnswer, error) {
	// What is secret is set afterwards, so that no error of this call can quote it.
	req, err := http.NewRequestWithContext(ctx, r.method, s.COS+"/", nil)
	if err != nil {
		return cosAnswer{}, &providers.Error{Kind: providers.Rejected, Call: r.call, Err: err}
	}
	query := make(url.Values, len(r.query))
	for name, value := range r.query {
		query.Set(name, value)
	}
	req.URL.Path, req.URL.RawQuery = "/"+r.key, query.Encode()
	req.Host = s.Host
	signed := map[string]string{"host": s.Host}
	for name, value := range r.header {
		req.Header.Set(name, value)
		signed[name] = value
	}
	if s.COSToken != "" {
		req.Header.Set(headerToken, s.COSToken)
		signed[headerToken] = s.COSToken
	}
	if r.method == http.MethodPut || r.method == http.MethodPost {
		req.Body, req.ContentLength = http.NoBody, r.length
		if r.body != nil && r.length > 0 {
			req.Body = r.body
		}
		signed["content-length"] = strconv.FormatInt(r.length, 10)
	}
	now := c.now()
	authorization := storageRequest{method: r.method, path: req.URL.Path, query: r.query, headers: signed}.
		sign(s.COSID, s.COSKey, now.Add(-clockSkew), now.Add(storageSignatureLife))
	req.Header.Set("Authorization", authorization)

	resp, err := c.http.Do(req)
	if err != nil {
		return cosAnswer{}, providers.TransportError(r.call, lost(r.call), err)
	}
	defer func() { _ = resp.Body.Close() }()
	most := int64(webapi.MaxAnswer)
	if r.call == callList || r.call == callListUploads {
		most = maxList
	}
	body, err := webapi.ReadAnswer(resp.Body, most)
	if err != nil {
		return cosAnswer{}, providers.TransportError(r.call, lost(r.call), err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		e := statusError(r.call, resp.StatusCode, resp.Header, body)
		e.Message = webapi.Words(e.Message, s.COSID, s.COSToken, authorization)
		return cosAnswer{}, e
	}
	if resp.Header.Get(headerRequestID) == "" {
		return cosAnswer{}, &providers.Error{
			Kind: lost(r.call), Call: r.call, Code: strconv.Itoa(resp.StatusCode), Message: "the answer is not from the storage: it has no request id",
		}
	}
	return cosAnswer{header: resp.Header, body: body}, nil
}

// cosError is the XML of a refusal.
type cosError struct {
	XMLName xml.Name `xml:"Error"`
	Code    string   `xml:"Code"`
	Message string   `xml:"Message"`
}

// statusError makes the error of an answer that is no success.
func statusError(call string, status int, header http.Header, body []byte) *providers.Error {
	var refused cosError
	// A body that is no error document leaves the status to go by.
	_ = xml.Unmarshal(bytes.TrimSpace(body), &refused)
	code := webapi.Code(refused.Code)
	if code == "" && call == callHead && status == http.StatusNotFound {
		code = codeNoSuchKey // an answer to HEAD has no body to say so
	}
	e := &providers.Error{Call: call, Code: code, Message: refused.Message, RetryAfter: webapi.RetryAfter(header)}
	if code == "" {
		e.Code, e.Kind = strconv.Itoa(status), webapi.StatusKind(status, lost(call))
		return e
	}
	e.Kind = codeKind(call, status, refused)
	return e
}

// codeKind classifies a refusal by its code, and by its status where the code
// tells nothing.
func codeKind(call string, status int, refused cosError) providers.Kind {
	switch refused.Code {
	case codeNoSuchUpload, "ExpiredToken", "InvalidPart":
		// A part that is not what the ledger says: a new session has none.
		return providers.SessionLost
	case "BadDigest", "IncompleteBody", "EntitySizeNotMatch":
		return providers.Mismatch
	case "SlowDown":
		return providers.Throttled
	case "RequestTimeout", "UserNetworkTooSlow", "RequestTimeTooSkewed":
		return providers.Transient
	case "AccessDenied":
		if strings.Contains(refused.Message, "Request has expired") {
			return providers.Transient // one of the clocks is off
		}
		return providers.Unauthorized
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return providers.Unauthorized
	case "EntityTooLarge", "EntityTooSmall", "InvalidArgument", "InvalidDigest", "InvalidPartOrder",
		"InvalidURI", "KeyTooLong", "MalformedXML", "NoSuchBucket", "NotImplemented":
		return providers.Rejected
	case "InternalError", "ServiceUnavailable":
		return webapi.StatusKind(max(status, http.StatusInternalServerError), lost(call))
	default:
		return webapi.StatusKind(status, lost(call))
	}
}

// codeOf returns the storage's own code of an error, "" if it has none.
func codeOf(err error) string {
	if e, ok := errors.AsType[*providers.Error](err); ok {
		return e.Code
	}
	return ""
}

// unreadable is the error of an answer that says nothing.
func unreadable(call string, err error) *providers.Error {
	return &providers.Error{Kind: lost(call), Call: call, Code: "200", Message: "the answer cannot be read", Err: err}
}

// parseXML reads the document of an answer, whose root is told by into. White
// space may come before it: the storage sends some to keep a connection open.
func parseXML(body []byte, into any) error {
	if err := xml.Unmarshal(bytes.TrimSpace(body), into); err != nil {
		return fmt.Errorf("document of %d bytes: %w", len(body), err)
	}
	return nil
}

// initiate opens a multipart upload and returns its id.
func (c *Client) initiate(ctx context.Context, s session, contentType string) (string, error) {
	r := cosRequest{call: callInitiate, method: http.MethodPost, key: s.Key, query: map[string]string{"uploads": ""}}
	if contentType != "" {
		r.header = map[string]string{"content-type": contentType}
	}
	got, err := c.storage(ctx, s, r)
	if err != nil {
		return "", err
	}
	var opened struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		UploadID string   `xml:"UploadId"`
	}
	if err := parseXML(got.body, &opened); err != nil {
		return "", unreadable(callInitiate, err)
	}
	if opened.UploadID == "" {
		return "", unreadable(callInitiate, errors.New("the answer names no UploadId"))
	}
	return opened.UploadID, nil
}

// cosPartList is a page of ListParts.
type cosPartList struct {
	XMLName   xml.Name        `xml:"ListPartsResult"`
	Parts     []cosListedPart `xml:"Part"`
	Next      int             `xml:"NextPartNumberMarker"`
	Truncated bool            `xml:"IsTruncated"`
}

type cosListedPart struct {
	Number int    `xml:"PartNumber"`
	ETag   string `xml:"ETag"`
	Size   int64  `xml:"Size"`
}

// parsePartList reads a page of ListParts.
func parsePartList(body []byte) (cosPartList, error) {
	var l cosPartList
	err := parseXML(body, &l)
	return l, err
}

// found returns the listed parts that are parts of the plan and were not seen on a
// page before; what has another length is left out and so sent again.
func (l cosPartList) found(plan parts.Plan, seen *parts.Set) []parts.Stored {
	var found []parts.Stored
	for _, p := range l.Parts {
		if p.Number < 1 || p.Number > plan.Count() || plan.Part(p.Number).Length != p.Size || seen.Has(p.Number) {
			continue
		}
		seen.Add(p.Number)
		found = append(found, parts.Stored{Part: plan.Part(p.Number), Receipt: parts.Receipt{Tag: strings.Trim(p.ETag, `"`)}})
	}
	return found
}

// listParts returns the stored parts that are parts of the plan, by number.
func (c *Client) listParts(ctx context.Context, s session, plan parts.Plan) ([]parts.Stored, error) {
	var found []parts.Stored
	var seen parts.Set
	for marker := 0; ; {
		got, err := c.storage(ctx, s, cosRequest{
			call: callList, method: http.MethodGet, key: s.Key,
			query: map[string]string{"uploadId": s.UploadID, "part-number-marker": strconv.Itoa(marker)},
		})
		if err != nil {
			return nil, err
		}
		page, err := parsePartList(got.body)
		if err != nil {
			return nil, unreadable(callList, err)
		}
		found = append(found, page.found(plan, &seen)...)
		switch {
		case !page.Truncated, len(found) == plan.Count():
			return found, nil
		case page.Next <= marker:
			return nil, unreadable(callList, errors.New("the list goes on and does not say where"))
		}
		marker = page.Next
	}
}

// cosUploadList is a page of ListMultipartUploads.
type cosUploadList struct {
	XMLName xml.Name `xml:"ListMultipartUploadsResult"`
	Uploads []struct {
		Key      string `xml:"Key"`
		UploadID string `xml:"UploadId"`
	} `xml:"Upload"`
}

// openUpload returns the id of the latest multipart upload of the key, "" if
// there is none. Keys that an upload of ours has are its alone, so one page
// has them all.
func (c *Client) openUpload(ctx context.Context, s session) (string, error) {
	got, err := c.storage(ctx, s, cosRequest{
		call: callListUploads, method: http.MethodGet, query: map[string]string{"uploads": "", "prefix": s.Key},
	})
	if err != nil {
		return "", err
	}
	var list cosUploadList
	if err := parseXML(got.body, &list); err != nil {
		return "", unreadable(callListUploads, err)
	}
	id := ""
	for _, u := range list.Uploads {
		if u.Key == s.Key {
			id = u.UploadID
		}
	}
	return id, nil
}

// cosComplete is the body of a completion.
type cosComplete struct {
	XMLName xml.Name          `xml:"CompleteMultipartUpload"`
	Parts   []cosCompletePart `xml:"Part"`
}

type cosCompletePart struct {
	Number int    `xml:"PartNumber"`
	ETag   string `xml:"ETag"`
}

// parseCompletion reads the answer to a completion. It begins before the
// outcome is known, so a refusal may stand in a 200 too.
func parseCompletion(body []byte) error {
	var done struct {
		XMLName xml.Name
		ETag    string `xml:"ETag"`
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	if err := parseXML(body, &done); err != nil {
		return unreadable(callComplete, err)
	}
	switch {
	case done.XMLName.Local == "Error" && done.Code != "":
		return statusErrorIn200(cosError{Code: done.Code, Message: done.Message})
	case done.XMLName.Local != "CompleteMultipartUploadResult" || done.ETag == "":
		return unreadable(callComplete, fmt.Errorf("document %q has no ETag", done.XMLName.Local))
	}
	return nil
}

func statusErrorIn200(refused cosError) *providers.Error {
	return &providers.Error{
		Kind: codeKind(callComplete, http.StatusInternalServerError, refused), Call: callComplete,
		Code: webapi.Code(refused.Code), Message: webapi.Words(refused.Message),
	}
}

// assemble puts the parts together, and returns the CRC-64 of the object. An
// upload that is gone may have been put together by an earlier call: then the
// object is there.
func (c *Client) assemble(ctx context.Context, s session, stored []parts.Stored) (hashing.Digest, error) {
	list := cosComplete{Parts: make([]cosCompletePart, len(stored))}
	for i, p := range stored {
		list.Parts[i] = cosCompletePart{Number: p.Number, ETag: `"` + p.Receipt.Tag + `"`}
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return hashing.Digest{}, &providers.Error{Kind: providers.Rejected, Call: callComplete, Err: err}
	}
	sum := md5.Sum(body) //nolint:gosec // see the import
	got, err := c.storage(ctx, s, cosRequest{
		call: callComplete, method: http.MethodPost, key: s.Key, query: map[string]string{"uploadId": s.UploadID},
		header: map[string]string{"content-type": "application/xml", "content-md5": base64.StdEncoding.EncodeToString(sum[:])},
		body:   io.NopCloser(bytes.NewReader(body)), length: int64(len(body)),
	})
	if err == nil {
		err = parseCompletion(got.body)
	}
	switch {
	case codeOf(err) == codeNoSuchUpload:
		return c.head(ctx, s)
	case err != nil:
		return hashing.Digest{}, err
	case got.crc().IsZero():
		// The header went out before the outcome was known.
		return c.head(ctx, s)
	}
	return got.crc(), nil
}

// head returns the CRC-64 of the object that is there, zero if the storage
// names none. Without an object it is an error with codeNoSuchKey.
func (c *Client) head(ctx context.Context, s session) (hashing.Digest, error) {
	got, err := c.storage(ctx, s, cosRequest{call: callHead, method: http.MethodHead, key: s.Key})
	if err != nil {
		return hashing.Digest{}, err
	}
	return got.crc(), nil
}
