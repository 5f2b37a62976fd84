package upstreams

import (
	"crypto/md5" //nolint:gosec // the protocol's ETag is an MD5
	"encoding/base64"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/hashing"
)

func (c *COS) initiate(call *cosCall) cosAnswer {
	u := &cosUpload{
		cosPlace: call.cosPlace, id: fmt.Sprintf("%d%s", time.Now().Unix(), randomHex(16)), account: call.Account,
		initiated: time.Now(), parts: make(map[int]cosPart),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uploads[u.id] = u
	return cosAnswer{body: cosInitiated{Bucket: u.bucket, Key: u.key, UploadID: u.id}}
}

// upload returns the open upload that the call is about. The caller holds c.mu.
func (c *COS) upload(call *cosCall) (*cosUpload, *cosRefusal) {
	u := c.uploads[call.query.Get("uploadId")]
	if u == nil || u.cosPlace != call.cosPlace {
		return nil, cosRefuse("NoSuchUpload", "there is no upload %q of %q", call.query.Get("uploadId"), call.key)
	}
	return u, nil
}

// drop forgets an upload and its parts. The caller holds c.mu.
func (c *COS) drop(id string) {
	removeAll(slices.Collect(maps.Values(c.uploads[id].parts)))
	delete(c.uploads, id)
}

func (c *COS) uploadPart(call *cosCall) cosAnswer {
	number, err := strconv.Atoi(call.query.Get("partNumber"))
	if err != nil || number < 1 || number > cosMaxParts {
		return cosRefused("InvalidArgument", "partNumber %q is not 1 to %d", call.query.Get("partNumber"), cosMaxParts)
	}
	c.mu.Lock()
	_, refusal := c.upload(call)
	c.mu.Unlock()
	if refusal != nil {
		return cosAnswer{refusal: refusal}
	}
	part, refusal := c.receive(call)
	if refusal != nil {
		return cosAnswer{refusal: refusal}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	u, refusal := c.upload(call) // it may have ended while the part came in
	if refusal != nil {
		removeAll([]cosPart{part})
		return cosAnswer{refusal: refusal}
	}
	if old, ok := u.parts[number]; ok {
		removeAll([]cosPart{old})
	}
	u.parts[number] = part
	return cosStored(part.md5, part.crc)
}

func (c *COS) listParts(call *cosCall) cosAnswer {
	most := min(cosNumber(call.query, "max-parts", cosMaxList), cosMaxList)
	after := cosNumber(call.query, "part-number-marker", 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	u, refusal := c.upload(call)
	if refusal != nil {
		return cosAnswer{refusal: refusal}
	}
	who := cosPerson{ID: u.account, DisplayName: u.account}
	list := cosListedParts{
		Bucket: u.bucket, Key: u.key, UploadID: u.id, Initiator: who, Owner: who,
		EncodingType: call.query.Get("encoding-type"), PartNumberMarker: after, StorageClass: "STANDARD", MaxParts: most,
	}
	if list.EncodingType == "url" {
		list.Key = cosEscape(list.Key)
	}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after || n == call.fault.HidePart {
			continue
		}
		if len(list.Parts) == most {
			list.IsTruncated = true
			break
		}
		p := u.parts[n]
		list.Parts = append(list.Parts, cosListedPart{PartNumber: n, LastModified: isoTime(p.modified), ETag: `"` + p.md5 + `"`, Size: p.size})
		list.NextPartNumberMarker = n
	}
	return cosAnswer{body: list}
}

// cosNumber reads a number of the query; otherwise is for one that is missing or
// wrong.
func cosNumber(query url.Values, name string, otherwise int) int {
	if n, err := strconv.Atoi(query.Get(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

func (c *COS) listUploads(call *cosCall) cosAnswer {
	most := min(cosNumber(call.query, "max-uploads", cosMaxList), cosMaxList)
	list := cosListedUploads{
		Bucket: call.bucket, Prefix: call.query.Get("prefix"), EncodingType: call.query.Get("encoding-type"),
		KeyMarker: call.query.Get("key-marker"), UploadIDMarker: call.query.Get("upload-id-marker"), MaxUploads: most,
	}
	name := func(key string) string { return key }
	if list.EncodingType == "url" {
		name = cosEscape
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	open := slices.SortedFunc(maps.Values(c.uploads), func(a, b *cosUpload) int {
		if a.key != b.key {
			return strings.Compare(a.key, b.key)
		}
		if !a.initiated.Equal(b.initiated) {
			return a.initiated.Compare(b.initiated)
		}
		return strings.Compare(a.id, b.id)
	})
	past := list.KeyMarker == ""
	for _, u := range open {
		if !past {
			past = u.key > list.KeyMarker || (u.key == list.KeyMarker && u.id == list.UploadIDMarker)
			if !past || u.key == list.KeyMarker {
				continue
			}
		}
		if u.bucket != call.bucket || !strings.HasPrefix(u.key, list.Prefix) {
			continue
		}
		if len(list.Uploads) == most {
			list.IsTruncated = true
			break
		}
		who := cosPerson{ID: u.account, DisplayName: u.account}
		list.Uploads = append(list.Uploads, cosListedUpload{
			Key: name(u.key), UploadID: u.id, Initiator: who, Owner: who, StorageClass: "STANDARD", Initiated: isoTime(u.initiated),
		})
		list.NextKeyMarker, list.NextUploadIDMarker = name(u.key), u.id
	}
	list.Prefix, list.KeyMarker = name(list.Prefix), name(list.KeyMarker)
	return cosAnswer{body: list}
}

func (c *COS) complete(call *cosCall) cosAnswer {
	body, err := io.ReadAll(io.LimitReader(call, cosMaxXML))
	if err != nil {
		return cosRefused("IncompleteBody", "%v", err)
	}
	if want := call.r.Header.Get("Content-Md5"); want != "" {
		if sum := md5.Sum(body); want != base64.StdEncoding.EncodeToString(sum[:]) { //nolint:gosec // see the import
			return cosRefused("BadDigest", "Content-MD5 is not that of the body")
		}
	}
	named, err := parseCOSComplete(body)
	if err != nil {
		return cosRefused("MalformedXML", "%v", err)
	}
	c.mu.Lock()
	u, refusal := c.upload(call)
	var pieces []cosPart
	if refusal == nil {
		pieces, refusal = u.pieces(named, c.config.MinPart)
	}
	if refusal != nil {
		c.mu.Unlock()
		return cosAnswer{refusal: refusal}
	}
	// From here on no part can be added and nobody else can complete it.
	for i := range pieces {
		delete(u.parts, i+1)
	}
	c.drop(u.id)
	c.mu.Unlock()

	o, err := c.assemble(u.cosPlace, pieces, call.fault)
	if err != nil {
		return cosRefused("InternalError", "%v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(o)
	c.file(o.cosPlace).Completes++
	answer := cosStored(o.etag, o.crc)
	answer.body = cosCompleted{
		Location: "http://" + call.r.Host + "/" + o.key, Bucket: o.bucket, Key: o.key, ETag: `"` + o.etag + `"`,
	}
	return answer
}

// pieces returns the parts that a completion names, in order.
func (u *cosUpload) pieces(named []cosCompletePart, minPart int64) ([]cosPart, *cosRefusal) {
	pieces := make([]cosPart, len(named))
	for i, n := range named {
		part, ok := u.parts[n.PartNumber]
		switch {
		case i > 0 && n.PartNumber <= named[i-1].PartNumber:
			return nil, cosRefuse("InvalidPartOrder", "part %d comes after part %d", n.PartNumber, named[i-1].PartNumber)
		case !ok || n.PartNumber != i+1:
			return nil, cosRefuse("InvalidPart", "part %d is not there or leaves a gap", n.PartNumber)
		case strings.Trim(n.ETag, `"`) != part.md5:
			return nil, cosRefuse("InvalidPart", "part %d has another ETag", n.PartNumber)
		case i < len(named)-1 && part.size < minPart:
			return nil, cosRefuse("EntityTooSmall", "part %d has %d bytes", n.PartNumber, part.size)
		}
		pieces[i] = part
	}
	return pieces, nil
}

// assemble makes an object of parts. Its CRC is that of the bytes on the disk,
// or, where none are kept, is combined from those of the parts.
func (c *COS) assemble(place cosPlace, pieces []cosPart, fault Fault) (*cosObject, error) {
	// The ETag of an object made of parts is opaque.
	o := &cosObject{cosPlace: place, pieces: pieces, etag: fmt.Sprintf("%s-%d", randomHex(md5.Size), len(pieces)), crc: pieces[0].crc}
	for i, p := range pieces {
		o.size += p.size
		if i == 0 {
			continue
		}
		var err error
		if o.crc, err = hashing.Combine(hashing.CRC64ECMA, o.crc, p.crc, p.size); err != nil {
			return nil, fmt.Errorf("assemble: %w", err)
		}
	}
	if pieces[0].path == "" {
		if fault.FlipBit {
			raw := o.crc.Bytes()
			raw[0] ^= 1
			o.crc = hashing.New(hashing.CRC64ECMA, raw)
		}
		return o, nil
	}
	if fault.FlipBit {
		if err := flipStored(pieces[0].path, fault.FlipAt); err != nil {
			return nil, err
		}
	}
	crc := crc64.New(crc64.MakeTable(crc64.ECMA))
	c.copyTo(crc, o)
	o.crc = hashing.New(hashing.CRC64ECMA, crc.Sum(nil))
	return o, nil
}

func (c *COS) abort(call *cosCall) cosAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, refusal := c.upload(call)
	if refusal != nil {
		return cosAnswer{refusal: refusal}
	}
	c.drop(u.id)
	return cosAnswer{status: http.StatusNoContent}
}
