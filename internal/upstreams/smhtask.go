package upstreams

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// smhStart is the body of StartUpload.
type smhStart struct {
	BeginningHash string          `json:"beginningHash"`
	FullHash      string          `json:"fullHash"`
	Size          json.RawMessage `json:"size"`
	Category      string          `json:"category"`

	size int64 // -1 if there is none
}

// parseSMHStart reads the body of StartUpload, which may be empty. Some of the
// vendor's clients write the size as a number.
func parseSMHStart(body []byte, strict bool) (smhStart, error) {
	b := smhStart{size: -1}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &b); err != nil {
			return smhStart{}, fmt.Errorf("body: %w", err)
		}
	}
	for _, h := range []string{b.BeginningHash, b.FullHash} {
		if raw, err := hex.DecodeString(h); h != "" && (err != nil || len(raw) != 32) {
			return smhStart{}, fmt.Errorf("%q is not a SHA-256", h)
		}
	}
	if len(b.Category) > 16 {
		return smhStart{}, fmt.Errorf("category %q has more than 16 bytes", b.Category)
	}
	if text := string(b.Size); text != "" && text != "null" {
		var quoted string
		if err := json.Unmarshal(b.Size, &quoted); err == nil {
			text = quoted
		} else if strict {
			return smhStart{}, fmt.Errorf("size %s is not a string", b.Size)
		}
		size, err := strconv.ParseInt(text, 10, 64)
		if err != nil || size < 0 {
			return smhStart{}, fmt.Errorf("size %s is not a number of bytes", b.Size)
		}
		b.size = size
	}
	return b, nil
}

// start opens a task, or makes the file if the bytes are there already.
func (s *SMH) start(c *smhCall) smhAnswer {
	raw, err := io.ReadAll(io.LimitReader(c, smhMaxJSON))
	if err != nil {
		return smhRefuse("IncompleteBody", "%v", err)
	}
	body, err := parseSMHStart(raw, s.config.Strict)
	if err != nil {
		return smhRefuse("ParamInvalid", "%v", err)
	}
	t, refused := newSMHTask(c, body)
	if refused.code != "" {
		return refused
	}
	if refused := s.admit(t); refused.code != "" {
		return refused
	}
	if body.size >= smhMinInstant {
		if content, whole := s.findContent(t.library, body); whole {
			s.mu.Lock()
			defer s.mu.Unlock()
			file, refused := s.publish(t, content, t.strategy)
			if refused.code != "" {
				return refused
			}
			return smhAnswer{status: http.StatusOK, body: file.info()}
		} else if content != nil && body.FullHash == "" {
			return smhAnswer{status: http.StatusAccepted}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[t.confirmKey], s.uploads[t.uploadID] = t, t
	return smhAnswer{status: http.StatusCreated, body: s.uploadInfo(c, t)}
}

// newSMHTask makes a task of what StartUpload asks for, under keys of its own.
func newSMHTask(c *smhCall, body smhStart) (*smhTask, smhAnswer) {
	key := randomHex(32)
	t := &smhTask{
		library: c.library, space: c.space, names: c.names, size: body.size, created: time.Now(),
		meta: make(map[string]string), parts: make(map[int]smhPart), claimed: body.BeginningHash + body.FullHash,
		confirmKey: key, uploadID: randomHex(24), object: "/" + url.PathEscape(c.library) + "/" + key[:32],
	}
	var err error
	if text := c.query.Get("filesize"); text != "" {
		if t.size, err = strconv.ParseInt(text, 10, 64); err != nil || t.size < 0 {
			return nil, smhRefuse("ParamInvalid", "filesize %q is not a number of bytes", text)
		}
	}
	if text := c.query.Get("traffic_limit"); text != "" {
		if t.speed, err = strconv.Atoi(text); err != nil || t.speed < smhMinSpeed || t.speed > smhMaxSpeed {
			return nil, smhRefuse("ParamInvalid", "traffic_limit %q is not from %d to %d", text, smhMinSpeed, smhMaxSpeed)
		}
	}
	for name := range c.r.Header {
		if meta, ok := strings.CutPrefix(name, "X-Smh-Meta-"); ok {
			t.meta[strings.ToLower(meta)] = c.r.Header.Get(name)
		}
	}
	var refused smhAnswer
	if t.strategy, refused = smhStrategy(c.query, "rename"); refused.code != "" {
		return nil, refused
	}
	t.force = t.strategy == "overwrite"
	for _, name := range t.names {
		switch {
		case name == "" || strings.ContainsAny(name, smhBadName):
			return nil, smhRefuse("IllegalFileName", "name %q", name)
		case len(name) > smhMaxName:
			return nil, smhRefuse("FileNameLengthExceed", "a name of %d bytes", len(name))
		}
	}
	return t, smhAnswer{}
}

// smhStrategy reads what is to happen if the name is taken.
func smhStrategy(query url.Values, otherwise string) (string, smhAnswer) {
	switch got := query.Get("conflict_resolution_strategy"); got {
	case "":
		return otherwise, smhAnswer{}
	case "rename", "ask", "overwrite":
		return got, smhAnswer{}
	default:
		return "", smhRefuse("InvalidConflictResolutionStrategy", "%q", got)
	}
}

// admit checks what may be refused before a byte is sent.
func (s *SMH) admit(t *smhTask) smhAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if above := strings.Join(t.names[:len(t.names)-1], "/"); !s.isDirectory(above) {
		return smhRefuse("DirectoryNotFound", "there is no directory %q", above)
	}
	if refused := s.taken(t, t.strategy); refused.code != "" {
		return refused
	}
	return s.withinQuota(t.library, max(t.size, 0))
}

// isDirectory reports whether the path is the root, a directory, or above one.
func (s *SMH) isDirectory(path string) bool {
	return path == "" || slices.ContainsFunc(s.config.Directories, func(d string) bool {
		return strings.HasPrefix(strings.Trim(d, "/")+"/", path+"/")
	})
}

// taken refuses a name that is taken where the strategy does. The caller holds
// the lock.
func (s *SMH) taken(t *smhTask, strategy string) smhAnswer {
	directory := s.isDirectory(strings.Join(t.names, "/"))
	_, file := s.files[smhKey(t.library, t.space, t.names)]
	if (file && strategy == "ask") || (directory && strategy != "rename") {
		return smhRefuse("SameNameDirectoryOrFileExists", "%q is taken", strings.Join(t.names, "/"))
	}
	return smhAnswer{}
}

func (s *SMH) withinQuota(library string, more int64) smhAnswer {
	if s.config.Quota == 0 {
		return smhAnswer{}
	}
	used := more
	for _, f := range s.files {
		if f.library == library {
			used += f.size
		}
	}
	if used > s.config.Quota {
		return smhRefuse("QuotaLimitReached", "%d bytes of %d are used with it", used, s.config.Quota)
	}
	return smhAnswer{}
}

func smhKey(library, space string, names []string) string {
	return strings.Join(append([]string{library, space}, names...), "/")
}

// findContent returns content of the library that has the hashes of the body;
// whole says that all of it matches, not only its beginning.
func (s *SMH) findContent(library string, body smhStart) (content *smhContent, whole bool) {
	s.mu.Lock()
	var same []*smhContent
	for _, content := range s.contents {
		if content.library == library && content.size == body.size {
			same = append(same, content)
		}
	}
	s.mu.Unlock()
	for _, candidate := range same { // the bytes are read without the lock
		begins, full := candidate.match(body.BeginningHash, body.FullHash)
		if full {
			return candidate, true
		}
		if begins {
			content = candidate
		}
	}
	return content, false
}

// parseSMHConfirm reads the CRC-64 in the body of ConfirmUpload, "" where there
// is none.
func parseSMHConfirm(body []byte) (string, error) {
	var b struct {
		CRC64 string `json:"crc64"`
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return "", nil
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return "", fmt.Errorf("body: %w", err)
	}
	if _, err := strconv.ParseUint(b.CRC64, 10, 64); b.CRC64 != "" && err != nil {
		return "", fmt.Errorf("crc64 %q is not a number", b.CRC64)
	}
	return b.CRC64, nil
}

// confirm completes the task. The caller holds the lock.
func (s *SMH) confirm(c *smhCall, t *smhTask, raw []byte) smhAnswer {
	if t.state == smhConfirmed {
		if !s.config.TolerantConfirm {
			return smhRefuse("UploadComplete", "the task is complete")
		}
		t.confirms++
		return smhAnswer{status: http.StatusOK, body: t.file.info()}
	}
	crc, err := parseSMHConfirm(raw)
	if err != nil {
		return smhRefuse("ParamInvalid", "%v", err)
	}
	strategy, refused := smhStrategy(c.query, t.strategy)
	if refused.code != "" {
		return refused
	}
	content, refused := t.assemble(s.config.MinPart)
	if refused.code != "" {
		return refused
	}
	if c.fault.FlipBit && content.parts[0].path != "" {
		if content.crc, err = damage(content, c.fault.FlipAt); err != nil {
			return smhRefuse("InternalServerError", "%v", err)
		}
	}
	if crc != "" && crc != smhCRC(content.crc) {
		return smhRefuse("BadCrc64", "the CRC-64 of the parts is %s, not %s", smhCRC(content.crc), crc)
	}
	if refused := s.withinQuota(t.library, content.size); refused.code != "" {
		return refused
	}
	if refused := s.taken(t, strategy); refused.code != "" {
		return refused
	}
	file, refused := s.publish(t, content, strategy)
	if refused.code != "" {
		return refused
	}
	s.contents[content.object] = content
	t.state, t.file = smhConfirmed, file
	t.confirms++
	return smhAnswer{status: http.StatusOK, body: file.info()}
}

// publish makes a file of the content. The caller holds the lock.
func (s *SMH) publish(t *smhTask, content *smhContent, strategy string) (*smhFile, smhAnswer) {
	if refused := s.taken(t, strategy); refused.code != "" {
		return nil, refused
	}
	now := time.Now()
	f := &smhFile{smhContent: content, space: t.space, names: t.names, created: now, modified: now, meta: t.meta}
	occupied := func(names []string) bool {
		return s.files[smhKey(t.library, t.space, names)] != nil || s.isDirectory(strings.Join(names, "/"))
	}
	switch old := s.files[smhKey(t.library, t.space, t.names)]; {
	case strategy == "rename":
		for n := 1; occupied(f.names); n++ {
			f.names = smhRenamed(t.names, n)
		}
	case old != nil:
		f.created, f.overwritten = old.created, true
	}
	s.files[smhKey(t.library, t.space, f.names)] = f
	return f, smhAnswer{}
}

// smhRenamed returns the path with the number n behind the name.
func smhRenamed(names []string, n int) []string {
	names = slices.Clone(names)
	name := names[len(names)-1]
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		dot = len(name)
	}
	names[len(names)-1] = fmt.Sprintf("%s (%d)%s", name[:dot], n, name[dot:])
	return names
}

// info answers with what is known of a file, or with the address of its bytes.
func (s *SMH) info(c *smhCall) smhAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[smhKey(c.library, c.space, c.names)]
	if f == nil {
		return smhRefuse("FileNotFound", "there is no file %q", c.File)
	}
	address := "http://" + c.r.Host + f.object
	if c.Action == ActionSMHOpen {
		return smhAnswer{status: http.StatusFound, header: map[string]string{"Location": address, "X-Smh-Crc64": smhCRC(f.crc)}}
	}
	info := f.info()
	delete(info, "path")
	delete(info, "name")
	delete(info, "isOverwritten")
	info["cosUrl"] = address
	return smhAnswer{status: http.StatusOK, body: info}
}

// info is a file as the API writes it.
func (f *smhFile) info() map[string]any {
	info := map[string]any{
		"path": f.names, "name": f.names[len(f.names)-1], "type": "file", "fileType": "video",
		"creationTime": isoTime(f.created), "modificationTime": isoTime(f.modified),
		"contentType": "application/octet-stream", "size": strconv.FormatInt(f.size, 10),
		"eTag": f.etag, "crc64": smhCRC(f.crc), "isOverwritten": f.overwritten,
		"previewByDoc": false, "previewByCI": true, "previewAsIcon": true,
	}
	if len(f.meta) > 0 {
		info["metaData"] = f.meta
	}
	return info
}

// smhListedPart is a part as the object storage lists it.
type smhListedPart struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
}

// status answers with the state of the task. The caller holds the lock.
func (s *SMH) status(c *smhCall, t *smhTask) smhAnswer {
	body := map[string]any{
		"confirmed": t.state == smhConfirmed, "path": t.names, "type": "file", "creationTime": isoTime(t.created),
		"conflictResolutionStrategy": t.strategy, "force": t.force, "availableDomainNum": 1,
	}
	if t.state == smhConfirmed {
		body["path"] = t.file.names
		return smhAnswer{status: http.StatusOK, body: body}
	}
	all := t.parts
	if c.fault.ListAll {
		all = t.pretended()
	}
	listed := []smhListedPart{}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if p := all[n]; n != c.fault.HidePart {
			listed = append(listed, smhListedPart{PartNumber: n, LastModified: isoTime(p.at), ETag: strconv.Quote(p.md5), Size: p.length})
		}
	}
	info := s.uploadInfo(c, t)
	info["path"] = strings.TrimPrefix(t.object, "/") // as in the documents' sample
	delete(info, "confirmKey")
	body["uploadId"], body["parts"], body["uploadPartInfo"] = t.uploadID, listed, info
	return smhAnswer{status: http.StatusOK, body: body}
}

// pretended returns the parts that an upload of the announced size would have.
// Each is as large as part 1, if that is stored. The caller holds the lock.
func (t *smhTask) pretended() map[int]smhPart {
	all := maps.Clone(t.parts)
	length := t.size
	if p, ok := t.parts[1]; ok {
		length = p.length
	}
	left := t.size
	for n := 1; left > 0 && n <= smhMaxParts; n++ {
		if _, ok := all[n]; !ok {
			all[n] = smhPart{length: min(length, left), md5: strings.Repeat("0", 32), at: t.created}
		}
		left -= length
	}
	return all
}
