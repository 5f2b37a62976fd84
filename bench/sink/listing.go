package sink

import (
	"encoding/xml"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	MaxKeys               int
	KeyCount              int
	IsTruncated           bool
	NextMarker            string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listed
	CommonPrefixes        []commonPrefix
}

type listed struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type commonPrefix struct{ Prefix string }

// listObjects answers both versions of the listing: the marker of one is the
// continuation token of the other, a key or a common prefix.
func (s *Server) listObjects(bucket string, query url.Values) (any, error) {
	l := listing{Name: bucket, Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter"), MaxKeys: 1000}
	if v := query.Get("max-keys"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, badRequest("InvalidArgument", "max-keys %q", v)
		}
		l.MaxKeys = min(n, l.MaxKeys)
	}
	encode := func(key string) string { return key }
	if query.Get("encoding-type") == "url" {
		l.EncodingType = "url"
		encode = url.QueryEscape
	}
	after := max(query.Get("marker"), query.Get("start-after"), query.Get("continuation-token"))

	s.mu.Lock()
	defer s.mu.Unlock()
	last := ""
	for _, key := range s.completed(bucket, l.Prefix) {
		entry := key
		common := false
		if i := strings.Index(key[len(l.Prefix):], l.Delimiter); l.Delimiter != "" && i >= 0 {
			entry, common = key[:len(l.Prefix)+i+len(l.Delimiter)], true
		}
		if entry <= after || entry == last {
			continue
		}
		if l.KeyCount == l.MaxKeys {
			l.IsTruncated = true
			l.NextMarker, l.NextContinuationToken = encode(last), last
			break
		}
		last = entry
		l.KeyCount++
		if common {
			l.CommonPrefixes = append(l.CommonPrefixes, commonPrefix{encode(entry)})
			continue
		}
		rec := s.keys[bucket+"/"+key]
		l.Contents = append(l.Contents, listed{
			Key: encode(key), ETag: quote(rec.etag), Size: rec.stats.Size, StorageClass: "STANDARD",
			LastModified: rec.stats.Completed.UTC().Format("2006-01-02T15:04:05.000Z"),
		})
	}
	return l, nil
}

// completed returns the keys of complete objects in order, s.mu held.
func (s *Server) completed(bucket, prefix string) []string {
	var keys []string
	for name, rec := range s.keys {
		key, ok := strings.CutPrefix(name, bucket+"/")
		if ok && strings.HasPrefix(key, prefix) && !rec.stats.Completed.IsZero() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
