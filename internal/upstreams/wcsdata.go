package upstreams

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Bounds of the storage, in bytes.
const (
	maxForm    = 2 << 30
	maxCtxList = 64 << 20
)

// dataPath is a path of the storage.
type dataPath struct {
	action string
	size   int64  // of the block or the file, bytes
	index  int    // of the block
	ctx    string // that a chunk follows on
	offset int64  // of a chunk within its block, bytes
}

// parseDataPath reads
//
//	/mkblk/<blockSize>/<blockIndex>
//	/bput/<ctx>/<offset>
//	/mkfile/<fileSize>[/key/<key>][/x:<name>/<value>…][/]
//	/file/upload
//
// Keys and variables of mkfile are left unread: the token has the key.
func parseDataPath(text string) (dataPath, error) {
	fields := strings.Split(strings.Trim(text, "/"), "/")
	action, args := fields[0], fields[1:]
	p := dataPath{action: action}
	number := func(s string) (int64, error) {
		n, err := strconv.ParseUint(s, 10, 62)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", s)
		}
		return int64(n), nil
	}
	var err error
	switch {
	case action == ActionMakeBlock && len(args) == 2:
		var index int64
		if p.size, err = number(args[0]); err == nil {
			index, err = number(args[1])
		}
		p.index = int(index)
		if err == nil && p.size == 0 {
			err = errors.New("a block has one byte at least")
		}
	case action == ActionPutChunk && len(args) == 2 && args[0] != "":
		p.ctx = args[0]
		p.offset, err = number(args[1])
	case action == ActionMakeFile && len(args)%2 == 1:
		p.size, err = number(args[0])
		for i := 1; i < len(args) && err == nil; i += 2 {
			if args[i] != "key" && !strings.HasPrefix(args[i], "x:") {
				err = fmt.Errorf("%q is not known", args[i])
			}
		}
	case text == "/file/upload":
		p.action = ActionForm
	default:
		err = errors.New("there is no such resource")
	}
	return p, err
}

// dataRefusal is a failure of the storage: the code is text, as in its trace.
func dataRefusal(status int, format string, args ...any) wcsReply {
	return wcsReply{status, map[string]string{"code": strconv.Itoa(status), "message": fmt.Sprintf(format, args...)}}
}

// serveData checks the token of a call of the storage, applies a fault and
// carries the call out.
func (w *WCS) serveData(rw http.ResponseWriter, r *http.Request) {
	p, err := parseDataPath(r.URL.Path)
	c := &callInHand{Call: Call{At: w.now(), Action: p.action, Method: r.Method, Offset: p.offset}, body: r.Body}
	var v *wcsVideo
	var policy wcsPolicy
	reply := wcsReply{status: http.StatusOK}
	switch {
	case err != nil:
		reply = dataRefusal(http.StatusNotFound, "Resource Not Found: %v", err)
	case r.Method != http.MethodPost:
		reply = dataRefusal(http.StatusMethodNotAllowed, "Method Not Allowed")
	case p.action != ActionForm: // whose token comes in the body
		v, policy, reply = w.admit(c, r)
	}
	if !w.begin(c, r) {
		return
	}
	if reply.status == http.StatusOK && c.fault.carriesOut() {
		switch p.action {
		case ActionMakeBlock:
			reply = w.makeBlock(c, r, v, p)
		case ActionPutChunk:
			reply = w.putChunk(c, r, v, p)
		case ActionMakeFile:
			reply = w.makeFile(c, r, v, policy, p)
		default:
			v, reply = w.form(c, r)
		}
	}
	w.end(rw, c, v, reply, dataRefusal(max(c.fault.Code, http.StatusBadRequest), "%s", asked(r)))
}

// admit checks the token and the headers that every call of a file carries.
func (w *WCS) admit(c *callInHand, r *http.Request) (*wcsVideo, wcsPolicy, wcsReply) {
	v, policy, reply := w.granted(r.Header.Get("Authorization"))
	if v == nil {
		return nil, policy, reply
	}
	c.Account, c.File = v.account, v.key
	key := r.Header.Get("Key")
	decoded, err := base64.URLEncoding.DecodeString(key)
	switch {
	case r.Header.Get("UploadBatch") == "":
		return nil, policy, dataRefusal(http.StatusBadRequest, "UploadBatch is missing")
	case w.config.Strict && key != "" && key != v.key && (err != nil || string(decoded) != v.key):
		return nil, policy, dataRefusal(http.StatusUnauthorized, "the token is for another key")
	}
	return v, policy, wcsReply{status: http.StatusOK}
}

// granted returns the video that a token is for; nil and the refusal if it is for none.
func (w *WCS) granted(token string) (*wcsVideo, wcsPolicy, wcsReply) {
	policy, err := verifyToken(token, w.accessKey, w.secretKey, w.now())
	if err != nil {
		return nil, policy, dataRefusal(http.StatusUnauthorized, "%v", err)
	}
	bucket, key, _ := strings.Cut(policy.Scope, ":")
	v := w.video(key)
	if bucket != wcsBucket || v == nil {
		return nil, policy, dataRefusal(http.StatusNotFound, "Bucket Not Found")
	}
	return v, policy, wcsReply{status: http.StatusOK}
}

// chunkReply is the answer of mkblk and bput.
type chunkReply struct {
	Ctx      string `json:"ctx"`
	Checksum string `json:"checksum"` // MD5 of this chunk
	CRC32    uint32 `json:"crc32"`    // of this chunk
	Offset   int64  `json:"offset"`   // bytes stored of the block
}

func (w *WCS) makeBlock(c *callInHand, r *http.Request, v *wcsVideo, p dataPath) wcsReply {
	return w.store(c, r, v, &wcsBlock{key: v.key, batch: r.Header.Get("UploadBatch"), index: p.index, size: p.size, sums: &pieces{}})
}

func (w *WCS) putChunk(c *callInHand, r *http.Request, v *wcsVideo, p dataPath) wcsReply {
	w.mu.Lock()
	b := w.blocks[p.ctx]
	continued := b != nil && b.continued
	w.mu.Unlock()
	switch {
	case b == nil:
		return dataRefusal(http.StatusUnauthorized, "the ctx is not known")
	case b.batch != r.Header.Get("UploadBatch"):
		return dataRefusal(http.StatusUnauthorized, "the ctx is of another UploadBatch")
	case b.stored != p.offset:
		return dataRefusal(http.StatusUnauthorized, "the ctx is at %d, not at %d", b.stored, p.offset)
	case continued && w.config.Strict:
		return dataRefusal(http.StatusUnauthorized, "another chunk followed on the ctx")
	}
	return w.store(c, r, v, b)
}

// store takes in the chunk that follows on b and answers with the ctx of both.
func (w *WCS) store(c *callInHand, r *http.Request, v *wcsVideo, b *wcsBlock) wcsReply {
	length := r.ContentLength
	switch {
	case length < 1:
		return dataRefusal(http.StatusBadRequest, "Content-Length is missing or 0")
	case length > b.size-b.stored:
		return dataRefusal(http.StatusBadRequest, "%d bytes do not fit in a block of %d that has %d", length, b.size, b.stored)
	}
	next := &wcsBlock{key: v.key, batch: b.batch, index: b.index, size: b.size, stored: b.stored + length, sums: b.sums.clone()}
	got, err := w.keeper.keep(flipped(c, c.fault), length, v.path, v.tail.Add(length)-length, next.sums)
	if err != nil || got.length != length {
		return dataRefusal(http.StatusBadRequest, "the body broke off: %v", err)
	}
	next.list = join(b.list, got.segment)
	ctx := randomHex(16)
	w.mu.Lock()
	b.continued = true
	w.blocks[ctx] = next
	w.mu.Unlock()
	return wcsReply{http.StatusOK, chunkReply{Ctx: ctx, Checksum: got.md5, CRC32: got.crc, Offset: next.stored}}
}

// makeFile makes the file of the blocks whose last ctxs the body names.
func (w *WCS) makeFile(c *callInHand, r *http.Request, v *wcsVideo, policy wcsPolicy, p dataPath) wcsReply {
	body, err := io.ReadAll(io.LimitReader(c, maxCtxList))
	if err != nil {
		return dataRefusal(http.StatusBadRequest, "the body broke off")
	}
	list := strings.TrimSuffix(string(body), ",")
	if list == "" {
		return dataRefusal(http.StatusUnauthorized, "ctx can not be null")
	}
	var content []segment
	var sums []byte
	var size int64
	ctxs := strings.Split(list, ",")
	for i, ctx := range ctxs {
		w.mu.Lock()
		b := w.blocks[ctx]
		w.mu.Unlock()
		switch {
		case b == nil:
			return dataRefusal(http.StatusPreconditionFailed, "block %d is not there", i)
		case b.batch != r.Header.Get("UploadBatch"):
			return dataRefusal(http.StatusUnauthorized, "the ctx is of another UploadBatch")
		case b.stored != b.size:
			return dataRefusal(http.StatusPreconditionFailed, "block %d has %d of %d bytes", i, b.stored, b.size)
		case i < len(ctxs)-1 && b.size%wcsPiece != 0:
			return dataRefusal(http.StatusBadRequest, "block %d has %d bytes, not a multiple of %d", i, b.size, wcsPiece)
		case w.config.Strict && b.index != i:
			return dataRefusal(http.StatusPreconditionFailed, "block %d stands in place of %d", b.index, i)
		}
		content = join(content, b.list...)
		sums = append(sums, b.sums.sums()...)
		size += b.size
	}
	if w.config.Strict && size != p.size {
		return dataRefusal(http.StatusPreconditionFailed, "the blocks have %d bytes, not %d", size, p.size)
	}
	if c.fault.FlipBit && v.path != "" {
		var damaged pieces
		err := flipStored(content[0].path, 8*content[0].at+c.fault.FlipAt)
		if err == nil {
			_, err = io.Copy(&damaged, io.NewSectionReader(newSegments(content), 0, size))
		}
		if err != nil {
			return dataRefusal(http.StatusInternalServerError, "%v", err)
		}
		sums = damaged.sums()
	}
	if refused := w.publish(v, policy, content, etagOf(sums), r.Host); refused.status != http.StatusOK {
		return refused
	}
	return wcsReply{http.StatusOK, map[string]string{"key": v.key, "hash": etagOf(sums)}}
}

// publish makes the video of the bytes, unless there is one that must not be replaced.
func (w *WCS) publish(v *wcsVideo, policy wcsPolicy, content []segment, hash, host string) wcsReply {
	whole := newSegments(content)
	if policy.SizeLimit > 0 && whole.size() > policy.SizeLimit {
		return dataRefusal(http.StatusRequestEntityTooLarge, "the file has more than %d bytes", policy.SizeLimit)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.content != nil && policy.Overwrite != 1 {
		return dataRefusal(http.StatusNotAcceptable, "the file exists")
	}
	v.content, v.hash, v.host, v.finished = whole, hash, host, w.now()
	v.finishes++
	w.mu.Lock()
	defer w.mu.Unlock()
	// The breakpoint id has done its service: it opens a new video from here on.
	if w.open[v.wcsFile] == v {
		delete(w.open, v.wcsFile)
	}
	return wcsReply{status: http.StatusOK}
}

// form takes in a form upload. The fields come in any order, the token may
// follow the bytes.
func (w *WCS) form(c *callInHand, r *http.Request) (*wcsVideo, wcsReply) {
	bad := func(format string, args ...any) (*wcsVideo, wcsReply) {
		return nil, dataRefusal(http.StatusBadRequest, format, args...)
	}
	r.Body = io.NopCloser(c)
	reader, err := r.MultipartReader()
	if err != nil {
		return bad("not a form: %v", err)
	}
	var token string
	var file *kept
	var sums pieces
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bad("the body broke off")
		}
		switch part.FormName() {
		case "token":
			text, err := io.ReadAll(io.LimitReader(part, 64<<10))
			if err != nil {
				return bad("the body broke off")
			}
			token = string(text)
		case "file":
			if file != nil {
				return bad("there are two files")
			}
			got, err := w.keeper.keep(flipped(part, c.fault), maxForm, w.formPath(), 0, &sums)
			if errors.Is(err, errTooLong) {
				return nil, dataRefusal(http.StatusRequestEntityTooLarge, "the file has more than %d bytes", int64(maxForm))
			}
			if err != nil {
				return bad("the body broke off: %v", err)
			}
			file = &got
		}
	}
	if file == nil {
		return bad("there is no file")
	}
	v, policy, refused := w.granted(token)
	if v == nil {
		return nil, refused
	}
	c.Account, c.File = v.account, v.key
	hash := etagOf(sums.sums())
	if refused := w.publish(v, policy, []segment{file.segment}, hash, r.Host); refused.status != http.StatusOK {
		return v, refused
	}
	return v, wcsReply{http.StatusOK, base64.URLEncoding.EncodeToString([]byte("hash=" + hash))}
}

// formPath returns where the next form upload is kept.
func (w *WCS) formPath() string {
	if w.config.Dir == "" {
		return ""
	}
	return path.Join(w.config.Dir, fmt.Sprintf("form%d", w.forms.Add(1)))
}
