package cdnetworks

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/lent"
	"mediaferry/internal/providers/webapi"
)

// The storage's names of the calls.
const (
	callBlock = "mkblk"
	callChunk = "bput"
	callFile  = "mkfile"
	callForm  = "upload"
)

// plane is the storage as one session may use it.
type plane struct {
	session

	http   *http.Client
	lapsed func() bool // the token is past its time
}

func (c *Client) plane(s session, expires time.Time) plane {
	return plane{session: s, http: c.http, lapsed: func() bool { return !expires.IsZero() && !c.now().Before(expires) }}
}

// summed is a reader that knows the CRC-32 and the number of the bytes read.
type summed struct {
	r   io.Reader
	sum uint32
	n   int64
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, crc32.IEEETable, p[:n])
	s.n += int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// putBlock sends a block in chunks, one after another, and returns its last ctx.
func (p plane) putBlock(ctx context.Context, part parts.Part, body providers.Body) (string, error) {
	call, path := callBlock, fmt.Sprintf("/mkblk/%d/%d", part.Length, part.Number-1)
	for sent := int64(0); ; {
		n := min(p.Chunk, part.Length-sent)
		got, err := p.putChunk(ctx, call, path, body, n)
		if err != nil {
			return "", err
		}
		sent += n
		if got.offset != sent {
			return "", mismatch(call, "block %d holds %d bytes, %d were sent", part.Number-1, got.offset, sent)
		}
		if sent == part.Length {
			finishBody(body)
			return got.ctx, nil
		}
		call, path = callChunk, fmt.Sprintf("/bput/%s/%d", url.PathEscape(got.ctx), sent)
	}
}

// putChunk sends the next n bytes of the body and compares their CRC-32.
func (p plane) putChunk(ctx context.Context, call, path string, body io.Reader, n int64) (chunk, error) {
	sent := &summed{r: io.LimitReader(body, n)}
	var loan lent.Loan
	defer loan.Return()
	answer, err := p.post(ctx, call, path, "application/octet-stream", loan.Reader(sent), n)
	if err != nil {
		return chunk{}, err
	}
	loan.Return()
	got, err := parseChunk(answer)
	switch {
	case err != nil:
		return chunk{}, &providers.Error{Kind: providers.Transient, Call: call, Code: "200", Message: "the answer cannot be read", Err: err}
	case sent.n != n || got.crc != sent.sum:
		return chunk{}, mismatch(call, "the storage holds CRC-32 %08x, %08x of %d bytes was sent", got.crc, sent.sum, sent.n)
	}
	return got, nil
}

// putForm sends the whole file by form upload and returns its hash.
func (p plane) putForm(ctx context.Context, body providers.Body) (string, error) {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	// Writing to memory does not fail.
	_ = form.WriteField("token", p.Token)
	_ = form.WriteField("key", p.FileKey)
	_, _ = form.CreateFormFile("file", p.Name)
	head := frame.Len()
	_ = form.Close()
	framed := io.MultiReader(
		bytes.NewReader(frame.Bytes()[:head]), io.LimitReader(body, body.Len()), bytes.NewReader(frame.Bytes()[head:]))

	var loan lent.Loan
	defer loan.Return()
	answer, err := p.post(ctx, callForm, "/file/upload", form.FormDataContentType(), loan.Reader(framed), int64(frame.Len())+body.Len())
	if err != nil {
		return "", err
	}
	loan.Return()
	hash, err := parseFormHash(answer)
	if err != nil {
		return "", &providers.Error{Kind: providers.Transient, Call: callForm, Code: "200", Message: "the answer cannot be read", Err: err}
	}
	if want := etag([]hashing.Digest{finishBody(body)}); hash != want {
		return "", mismatch(callForm, "the storage holds hash %s, %q was sent", hash, want)
	}
	return hash, nil
}

// makeFile makes a file of the blocks and returns its hash.
func (p plane) makeFile(ctx context.Context, size int64, ctxs string) (string, error) {
	// The body cannot be had twice, so no transport repeats the call by itself.
	body := io.NopCloser(strings.NewReader(ctxs))
	answer, err := p.post(ctx, callFile, fmt.Sprintf("/mkfile/%d", size), "text/plain;charset=UTF-8", body, int64(len(ctxs)))
	if err != nil {
		return "", err
	}
	hash, err := parseFileHash(answer)
	if err != nil {
		return "", &providers.Error{Kind: providers.UnknownOutcome, Call: callFile, Code: "200", Message: "the answer cannot be read", Err: err}
	}
	return hash, nil
}

// post makes one call and returns the body of an answer of status 200.
func (p plane) post(ctx context.Context, call, path, contentType string, body io.ReadCloser, length int64) ([]byte, error) {
	lost := providers.Transient
	if call == callFile {
		lost = providers.UnknownOutcome
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.UploadURL+path, nil)
	if err != nil {
		return nil, &providers.Error{Kind: providers.Rejected, Call: call, Err: err}
	}
	req.Body, req.ContentLength = body, length
	req.Header.Set("Content-Type", contentType)
	if call != callForm { // which has the token and the key in fields
		req.Header.Set("Authorization", p.Token)
		req.Header.Set("UploadBatch", p.Batch)
		req.Header.Set("Key", p.keyHeader())
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, providers.TransportError(call, lost, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := webapi.ReadAnswer(resp.Body, webapi.MaxAnswer)
	if resp.StatusCode == http.StatusOK {
		if err != nil {
			return nil, providers.TransportError(call, lost, err)
		}
		return answer, nil
	}
	return nil, p.refusal(call, resp, answer)
}

func (s session) keyHeader() string {
	if s.KeyStyle == keyPlain {
		return s.FileKey
	}
	return base64.URLEncoding.EncodeToString([]byte(s.FileKey))
}

// escapeKey escapes a key for the path of an address, slashes kept.
func escapeKey(key string) string { return (&url.URL{Path: key}).EscapedPath() }

// Statuses of the storage beside those of HTTP.
const (
	statusStored    = 579 // the file is there, the callback to its owner failed
	statusNoBucket  = 631
	statusBadChunk  = 701
	statusNameTaken = http.StatusNotAcceptable // of a chunk: its check failed
)

// refusal makes the error of an answer that is not 200.
func (p plane) refusal(call string, resp *http.Response, body []byte) error {
	var said struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &said) // a gateway in between answers no JSON, the status tells enough
	return &providers.Error{
		Kind: planeKind(call, resp.StatusCode, p.lapsed()), Call: call, Code: strconv.Itoa(resp.StatusCode),
		Message: webapi.Words(said.Message, p.Token), RetryAfter: webapi.RetryAfter(resp.Header),
	}
}

// planeKind classifies a failure of the storage. Account credentials have no
// part in these calls, so what is refused is the session's token.
func planeKind(call string, status int, lapsed bool) providers.Kind {
	lost := providers.Transient // what became of the call is not known
	if call == callFile {
		lost = providers.UnknownOutcome
	}
	switch {
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		// Beside the token, 401 is for a chunk that does not follow on its ctx, and
		// perhaps for a file that an earlier mkfile made. The block is started
		// again, where mkblk tells of the token; the file is probed for.
		if lapsed || call == callBlock || call == callForm {
			return providers.SessionLost
		}
		return lost
	case status == statusNameTaken && call == callFile:
		return providers.UnknownOutcome // the key is ours alone: an earlier mkfile made it
	case status == statusNameTaken && call == callForm:
		return providers.Rejected
	case call == callFile && (status == http.StatusPreconditionFailed || status == statusBadChunk):
		return providers.SessionLost // blocks are gone; only new ones help
	case status == statusNameTaken, status == statusBadChunk:
		return providers.Mismatch
	case status == http.StatusPreconditionFailed, status == http.StatusRequestTimeout:
		return lost
	case status == statusNoBucket:
		return providers.Rejected
	case status == http.StatusServiceUnavailable && call != callFile:
		return providers.Throttled
	case status == statusStored, status >= 500, status < 400:
		return lost
	default:
		return providers.Rejected
	}
}

// chunk is the answer of mkblk and bput.
type chunk struct {
	ctx    string
	crc    uint32 // IEEE, of the chunk
	offset int64  // bytes stored of the block
}

// maxCtx bounds a ctx, in bytes; those seen have 32.
const maxCtx = 1024

// parseChunk reads one. A ctx goes into a path and a list parted by commas.
func parseChunk(body []byte) (chunk, error) {
	var a struct {
		Ctx    webapi.Text `json:"ctx"`
		CRC32  number      `json:"crc32"`
		Offset number      `json:"offset"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return chunk{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	crc, err := strconv.ParseUint(string(a.CRC32), 10, 32)
	blockCtx := string(a.Ctx)
	switch {
	case err != nil || a.Offset == "":
		return chunk{}, fmt.Errorf("answer of %d bytes lacks crc32 or offset", len(body))
	case blockCtx == "" || len(blockCtx) > maxCtx || strings.ContainsAny(blockCtx, ",/?#%\\") ||
		strings.ContainsFunc(blockCtx, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.Trim(blockCtx, ".") == "":
		return chunk{}, fmt.Errorf("ctx %.40q cannot be used", blockCtx)
	}
	return chunk{ctx: blockCtx, crc: uint32(crc), offset: a.Offset.value()}, nil
}

// errNoHash says that an answer does not prove the file.
var errNoHash = errors.New("the answer has no hash")

// parseFileHash reads the hash of the answer of mkfile.
func parseFileHash(body []byte) (string, error) {
	var a struct {
		Hash webapi.Text `json:"hash"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return "", fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if a.Hash == "" {
		return "", errNoHash
	}
	return string(a.Hash), nil
}

// parseFormHash reads the hash of the answer of a form upload: Base64 of
// fields, of which the hash is the last.
func parseFormHash(body []byte) (string, error) {
	text := strings.TrimRight(strings.TrimSpace(string(body)), "=")
	fields, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	last := string(fields[bytes.LastIndexByte(fields, '&')+1:])
	if hash, ok := strings.CutPrefix(last, "hash="); ok && hash != "" {
		return hash, nil
	}
	return "", errNoHash
}
