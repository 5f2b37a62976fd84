package upstreams

import (
	"crypto/md5"  //nolint:gosec // the protocol checks MD5
	"crypto/sha1" //nolint:gosec // the protocol identifies files by SHA-1
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apply carries out an authenticated call.
func (v *VOD) apply(c *vodCall) vodAnswer {
	if c.Action == ActionReport && !v.config.Strict {
		return vodAnswer{}
	}
	key := vodKey{c.Account, c.File}
	v.mu.Lock()
	u := v.uploads[key]
	if u == nil && c.step == vodInit {
		u = &vodUpload{vodKey: key, parts: make(map[int64]vodPart)}
		v.uploads[key] = u
	}
	v.mu.Unlock()
	switch {
	case c.step == "":
		return vodRefusal(codeCommon, 0, "Action %q is not known", c.Action)
	case u == nil:
		return vodRefusal(codeNotFound, 0, "no upload of %s was opened", c.File)
	case c.step == vodInit:
		return v.init(c, u)
	case c.step == vodPut:
		return v.part(c, u)
	default:
		return v.finish(c, u)
	}
}

// misreport makes InitUpload or InitUploadEx lie about the stored parts, if the
// fault asks for it.
func (v *VOD) misreport(c *vodCall, answer vodAnswer, fault Fault) vodAnswer {
	v.mu.Lock()
	u := v.uploads[vodKey{c.Account, c.File}]
	v.mu.Unlock()
	if c.step != vodInit || answer.Code < 0 || answer.Code == 2 || u == nil {
		return answer
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if fault.ListAll {
		answer.Code, answer.DataSize, answer.ListParts = 1, u.partSize, nil
		for offset := int64(0); offset < u.size; offset += u.partSize {
			p := vodPart{length: min(u.partSize, u.size-offset), md5: strings.Repeat("0", 2*md5.Size)}
			if stored, ok := u.parts[offset]; ok {
				p = stored
			}
			answer.ListParts = append(answer.ListParts, vodListedPart{Offset: offset, DataSize: p.length, DataMD5: p.md5})
		}
	}
	if fault.HidePart > 0 {
		hidden := int64(fault.HidePart-1) * u.partSize
		answer.ListParts = slices.DeleteFunc(answer.ListParts, func(p vodListedPart) bool { return p.Offset == hidden })
	}
	return answer
}

func (v *VOD) init(c *vodCall, u *vodUpload) vodAnswer {
	size, serr := strconv.ParseInt(c.query.Get("fileSize"), 10, 64)
	partSize, perr := strconv.ParseInt(c.query.Get("dataSize"), 10, 64)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case serr != nil || size < 1:
		return vodRefusal(codeProtocol, 0, "fileSize %q is not a size", c.query.Get("fileSize"))
	case perr != nil || (partSize != 512<<10 && partSize != 1<<20):
		return vodRefusal(codeProtocol, 0, "dataSize %q is neither 524288 nor 1048576", c.query.Get("dataSize"))
	case u.size != 0 && u.size != size:
		return vodRefusal(codeProtocol, 0, "fileSize is %d, it was %d", size, u.size)
	case u.fileID != "":
		return vodAnswer{Code: 2, FileID: u.fileID, URL: u.url}
	case len(u.parts) > 0:
		answer := vodAnswer{Code: 1, DataSize: u.partSize} // the first part size wins
		for _, offset := range slices.Sorted(maps.Keys(u.parts)) {
			p := u.parts[offset]
			answer.ListParts = append(answer.ListParts, vodListedPart{Offset: offset, DataSize: p.length, DataMD5: p.md5})
		}
		return answer
	}
	u.size, u.partSize = size, partSize
	if u.fileType = c.claims.fileType; u.fileType == "" {
		u.fileType = c.query.Get("fileType")
	}
	if v.config.Dir != "" {
		u.path = filepath.Join(v.config.Dir, fmt.Sprintf("%x-%s", md5.Sum([]byte(u.account)), u.fileSHA)) //nolint:gosec // a file name
	}
	return vodAnswer{}
}

func (v *VOD) part(c *vodCall, u *vodUpload) vodAnswer {
	offset, oerr := strconv.ParseInt(c.query.Get("offset"), 10, 64)
	length, lerr := strconv.ParseInt(c.query.Get("dataSize"), 10, 64)
	sum := c.query.Get("dataMd5")
	u.mu.Lock()
	size, partSize, path, finished := u.size, u.partSize, u.path, u.fileID != ""
	u.mu.Unlock()
	switch {
	case oerr != nil || offset < 0 || offset >= size || offset%partSize != 0:
		return vodRefusal(codeProtocol, 0, "offset %q is not a multiple of %d below %d", c.query.Get("offset"), partSize, size)
	case lerr != nil || length != min(partSize, size-offset):
		return vodRefusal(codeProtocol, 0, "dataSize %q is not %d", c.query.Get("dataSize"), min(partSize, size-offset))
	case v.config.Strict && sum != strings.ToLower(sum):
		return vodRefusal(codeProtocol, 0, "dataMd5 is not in lower case")
	}
	buffer, _ := v.buffers.Get().(*[]byte)
	defer v.buffers.Put(buffer)
	n, err := io.ReadFull(c, (*buffer)[:length+1]) // one byte more shows a body that is too long
	if (err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF)) || int64(n) != length {
		return vodRefusal(codePacket, 1, "body has %d bytes, dataSize says %d", n, length)
	}
	data := (*buffer)[:length]
	if got := md5.Sum(data); !strings.EqualFold(hex.EncodeToString(got[:]), sum) { //nolint:gosec // the protocol checks MD5
		return vodRefusal(codePacket, 1, "dataMd5 is not that of the body")
	}
	if finished {
		return vodAnswer{} // the media holds these bytes
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fileID != "" {
		return vodAnswer{}
	}
	if path != "" {
		if err := writeAt(path, data, offset); err != nil {
			return vodRefusal(codeWrite, 1, "%v", err)
		}
	}
	u.parts[offset] = vodPart{length: length, md5: strings.ToLower(sum)}
	return vodAnswer{}
}

func writeAt(path string, data []byte, offset int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the path is made of hex digits
	if err != nil {
		return fmt.Errorf("keep part: %w", err)
	}
	if _, err := f.WriteAt(data, offset); err != nil {
		_ = f.Close() // the write's error says it
		return fmt.Errorf("keep part: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("keep part: %w", err)
	}
	return nil
}

func (v *VOD) finish(c *vodCall, u *vodUpload) vodAnswer {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fileID == "" {
		var stored int64
		for _, p := range u.parts {
			stored += p.length
		}
		if stored != u.size || u.size == 0 {
			return vodRefusal(codeProtocol, 0, "%d of %d bytes are stored", stored, u.size)
		}
		if c.fault.FlipBit && u.path != "" {
			if err := flipStored(u.path, c.fault.FlipAt); err != nil {
				return vodRefusal(codeWrite, 1, "%v", err)
			}
		}
		if sum, err := fileSHA(u.path, u.fileSHA); err != nil {
			return vodRefusal(codeWrite, 1, "%v", err)
		} else if sum != u.fileSHA {
			return vodRefusal(codeProtocol, 0, "the SHA-1 of the parts is %s", sum)
		}
		v.publish(c, u)
	}
	u.finishes++
	answer := vodAnswer{FileID: u.fileID, URL: u.url}
	if v.config.VerifyKey != "" && c.Action == ActionFinish {
		answer.VerifyContent = verifyContent(v.config.VerifyKey, u.fileID, time.Now().Add(time.Hour).Unix(), v.config.HexVerify)
	}
	return answer
}

// publish gives the upload its id, beyond the range of int64 as the real ones
// are, and its address here. The caller holds u.mu.
func (v *VOD) publish(c *vodCall, u *vodUpload) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sequence++
	u.fileID = strconv.FormatUint(1<<63|v.sequence, 10)
	u.url = fmt.Sprintf("http://%s/media/%s/f0.%s", c.host, u.fileID, url.PathEscape(u.fileType))
	v.media[u.fileID] = u
}

// fileSHA returns the SHA-1 of the kept bytes, or trusted where none are kept.
func fileSHA(path, trusted string) (string, error) {
	if path == "" {
		return trusted, nil
	}
	f, err := os.Open(path) //nolint:gosec // the path is made of hex digits
	if err != nil {
		return "", fmt.Errorf("read upload: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha1.New()                  //nolint:gosec // see the import
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read upload: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// serveMedia answers GET /media/<fileId>/f0.<type> with the kept bytes.
func (v *VOD) serveMedia(w http.ResponseWriter, r *http.Request) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/media/"), "/")
	v.mu.Lock()
	u := v.media[id]
	v.mu.Unlock()
	if u == nil {
		http.NotFound(w, r)
		return
	}
	if u.path == "" {
		http.Error(w, "the bytes were discarded on arrival", http.StatusGone)
		return
	}
	f, err := os.Open(u.path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = f.Close() }() // it was only read
	http.ServeContent(w, r, filepath.Base(r.URL.Path), v.started, f)
}
