package sink

import (
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

type upload struct {
	key    string // "bucket/key"
	header http.Header
	parts  map[int]part
}

type part struct {
	size  int64
	etag  string
	crc64 string // base64, as S3 writes it
}

func (s *Server) uploadOf(name, id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.uploads[id]
	if up == nil || up.key != name {
		return nil, notFound("NoSuchUpload", "%s of %s", id, name)
	}
	return up, nil
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request, bucket, key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	id := "upload-" + strconv.Itoa(s.serial)
	s.uploads[id] = &upload{key: bucket + "/" + key, header: keptHeader(r.Header), parts: map[int]part{}}
	for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"} {
		if v := r.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	return struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string   //nolint:revive // S3's spelling
	}{Bucket: bucket, Key: key, UploadId: id}
}

func (s *Server) abort(w http.ResponseWriter, name, id string) error {
	if _, err := s.uploadOf(name, id); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.uploads, id)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// namedPart is a part as the client names it when it completes an upload.
type namedPart struct {
	PartNumber int
	ETag       string
}

// complete assembles an upload from the parts that the client names, in
// ascending order; parts that are not named are dropped, as S3 does.
func (s *Server) complete(r *http.Request, bucket, key, id string) (any, error) {
	named, err := readPartList(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := bucket + "/" + key
	up := s.uploads[id]
	if up == nil || up.key != name {
		return nil, notFound("NoSuchUpload", "%s of %s", id, name)
	}
	parts, size, err := up.named(named)
	if err != nil {
		return nil, err
	}
	whole, err := minio.ChecksumCRC64NVME.FullObjectChecksum(parts)
	if err != nil {
		return nil, fmt.Errorf("combine checksums of %s: %w", name, err)
	}
	crc64 := whole.Encoded()
	if sent := r.Header.Get(crc64Header); sent != "" && sent != crc64 {
		return nil, badRequest("BadDigest", "crc64nvme of %s is %s here, %s was sent", name, crc64, sent)
	}

	etag := fmt.Sprintf("%x-%d", binary.BigEndian.Uint64(whole.Raw()), len(parts))
	rec := s.record(name)
	rec.etag, rec.header = etag, up.header
	rec.stats.Size, rec.stats.CRC64NVME, rec.stats.Parts = size, crc64, len(parts)
	rec.stats.Completed = time.Now()
	delete(s.uploads, id)
	return struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
		ChecksumCRC64NVME string
		ChecksumType      string
	}{Bucket: bucket, Key: key, ETag: quote(etag), ChecksumCRC64NVME: crc64, ChecksumType: "FULL_OBJECT"}, nil
}

// readPartList reads the body of CompleteMultipartUpload.
func readPartList(r *http.Request) ([]namedPart, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxXML))
	if err != nil {
		return nil, fmt.Errorf("read list of parts: %w", err)
	}
	// Some clients frame even this body in aws-chunked.
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		if text, err = io.ReadAll(newChunkedReader(strings.NewReader(string(text)))); err != nil {
			return nil, fmt.Errorf("read list of parts: %w", err)
		}
	}
	var list struct {
		Parts []namedPart `xml:"Part"`
	}
	if err := xml.Unmarshal(text, &list); err != nil || len(list.Parts) == 0 {
		return nil, badRequest("MalformedXML", "list of parts: %v", err)
	}
	return list.Parts, nil
}

// named returns the upload's parts that are named, and their size in bytes. The
// caller holds the server's lock.
func (u *upload) named(list []namedPart) (parts []minio.ObjectPart, size int64, err error) {
	last := 0
	for _, n := range list {
		p, ok := u.parts[n.PartNumber]
		switch {
		case !ok || strings.Trim(n.ETag, `"`) != p.etag:
			return nil, 0, badRequest("InvalidPart", "part %d with ETag %s", n.PartNumber, n.ETag)
		case n.PartNumber <= last:
			return nil, 0, badRequest("InvalidPartOrder", "part %d after part %d", n.PartNumber, last)
		}
		last = n.PartNumber
		size += p.size
		parts = append(parts, minio.ObjectPart{PartNumber: n.PartNumber, Size: p.size, ChecksumCRC64NVME: p.crc64})
	}
	return parts, size, nil
}

func (s *Server) listParts(bucket, key, id string) (any, error) {
	up, err := s.uploadOf(bucket+"/"+key, id)
	if err != nil {
		return nil, err
	}
	type entry struct {
		PartNumber        int
		ETag              string
		Size              int64
		ChecksumCRC64NVME string
	}
	s.mu.Lock()
	entries := make([]entry, 0, len(up.parts))
	for n, p := range up.parts {
		entries = append(entries, entry{n, quote(p.etag), p.size, p.crc64})
	}
	s.mu.Unlock()
	slices.SortFunc(entries, func(a, b entry) int { return a.PartNumber - b.PartNumber })
	return struct {
		XMLName               xml.Name `xml:"ListPartsResult"`
		Bucket, Key, UploadId string   //nolint:revive // S3's spelling
		Part                  []entry
	}{Bucket: bucket, Key: key, UploadId: id, Part: entries}, nil
}

func (s *Server) listUploads(bucket string) any {
	type entry struct {
		Key, UploadId string //nolint:revive // S3's spelling
	}
	var entries []entry
	s.mu.Lock()
	for id, up := range s.uploads {
		if key, ok := strings.CutPrefix(up.key, bucket+"/"); ok {
			entries = append(entries, entry{key, id})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Key+a.UploadId, b.Key+b.UploadId) })
	return struct {
		XMLName xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket  string
		Upload  []entry
	}{Bucket: bucket, Upload: entries}
}
