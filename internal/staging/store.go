package staging

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// readHeaderTimeout bounds the wait for the first byte of an answer. A whole
	// body has no bound: its reader watches its progress.
	readHeaderTimeout = 30 * time.Second
	// writeHeaderTimeout is longer, since servers assemble a multipart upload
	// before they answer.
	writeHeaderTimeout = 10 * time.Minute
	idleTimeout        = 90 * time.Second
	// idlePerHost keeps a connection for each slot of a large worker; with the
	// default of two, almost every range would dial anew.
	idlePerHost = 256
	// writeTries includes the first try; only writes are retried here.
	writeTries = 4
)

// Config says where staging is and how to get in.
type Config struct {
	// Endpoint is "host:port", for plain HTTP, or a URL with http or https.
	Endpoint  string
	Region    string // "us-east-1" if empty
	AccessKey providers.Secret
	SecretKey providers.Secret
	// PathStyle puts the bucket into the path of the URL instead of its host, as
	// most servers other than Amazon's want it. Without it, the endpoint decides.
	PathStyle bool
	// CAFile holds the authorities that sign the server's certificate, in PEM; the
	// system's if empty.
	CAFile string
}

// Store reads (and, for push and tests, writes) a staging server. It is safe
// for use by many goroutines.
type Store struct {
	read, write *minio.Client
	core        minio.Core
	transports  [2]*http.Transport
}

// New returns a Store without dialling. The error says which field of the config
// is wrong.
func New(config Config) (*Store, error) {
	host, secure, err := parseEndpoint(config.Endpoint)
	if err != nil {
		return nil, err
	}
	if config.Region == "" {
		// Without a region minio-go would ask the server for each bucket's.
		config.Region = "us-east-1"
	}
	lookup := minio.BucketLookupAuto
	if config.PathStyle {
		lookup = minio.BucketLookupPath
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("staging.ca_file: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("staging.ca_file: %s holds no certificate; give PEM", config.CAFile)
		}
	}
	s := &Store{transports: [2]*http.Transport{transport(readHeaderTimeout, trust), transport(writeHeaderTimeout, trust)}}
	client := func(t *http.Transport, tries int) (*minio.Client, error) {
		return minio.New(host, &minio.Options{
			Creds:           credentials.NewStaticV4(config.AccessKey.Reveal(), config.SecretKey.Reveal(), ""),
			Secure:          secure,
			Transport:       t,
			Region:          config.Region,
			BucketLookup:    lookup,
			TrailingHeaders: true,
			MaxRetries:      tries,
		})
	}
	if s.read, err = client(s.transports[0], 1); err != nil {
		return nil, fmt.Errorf("staging endpoint %q: %w", config.Endpoint, err)
	}
	if s.write, err = client(s.transports[1], writeTries); err != nil {
		return nil, fmt.Errorf("staging endpoint %q: %w", config.Endpoint, err)
	}
	s.core = minio.Core{Client: s.read}
	return s, nil
}

// parseEndpoint takes "host:port" or a URL without a path.
func parseEndpoint(endpoint string) (host string, secure bool, err error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "", false, errors.New("staging endpoint is not a URL; give host:port or https://host")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", false, fmt.Errorf("staging endpoint has scheme %q; give http or https", u.Scheme)
	case u.Host == "":
		return "", false, errors.New("staging endpoint is missing; give host:port or https://host")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return "", false, fmt.Errorf("staging endpoint %s has more than scheme and host; take the rest out", u.Host)
	}
	return u.Host, u.Scheme == "https", nil
}

// transport speaks HTTP/1.1 only, so each range has a connection, and its flow
// control, to itself.
func transport(headerTimeout time.Duration, trust *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:        trust.Clone(),
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxResponseHeaderBytes: 256 << 10, // each slot of a worker may meet one
		DisableCompression:     true,      // the bytes must arrive as they are stored
	}
}

// Close drops idle connections. Bodies that are still open stay readable.
func (s *Store) Close() {
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// Check makes one call with our credentials to see whether the server answers,
// and changes nothing. Credentials that may not list buckets are fine: a worker
// only reads objects. The caller waits for a server that is not up yet.
func (s *Store) Check(ctx context.Context) error {
	_, err := s.read.ListBuckets(ctx)
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok && resp.Code == minio.AccessDenied {
		return nil
	}
	if err != nil {
		return classify("check", "", "", err)
	}
	return nil
}

// Stat returns the object as it is now, with its ETag, size and version.
func (s *Store) Stat(ctx context.Context, bucket, key string) (uploads.Object, error) {
	info, err := s.read.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return uploads.Object{}, classify("stat", bucket, key, err)
	}
	return object("stat", bucket, key, info)
}

// StatDigest is Stat with the checksum that the server keeps of the whole object:
// CRC-64/NVME, CRC-32C, SHA-256 or SHA-1, the first of these that it has, or zero.
// A checksum of the parts' checksums does not count. Nor does the ETag, which may
// look like an MD5 without being one.
func (s *Store) StatDigest(ctx context.Context, bucket, key string) (uploads.Object, hashing.Digest, error) {
	info, err := s.read.StatObject(ctx, bucket, key, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return uploads.Object{}, hashing.Digest{}, classify("stat", bucket, key, err)
	}
	object, err := object("stat", bucket, key, info)
	if err != nil {
		return uploads.Object{}, hashing.Digest{}, err
	}
	if info.ChecksumMode != "" && info.ChecksumMode != minio.ChecksumFullObjectMode.String() {
		return object, hashing.Digest{}, nil
	}
	for _, kept := range []struct {
		kind hashing.Kind
		text string
	}{
		{hashing.CRC64NVME, info.ChecksumCRC64NVME},
		{hashing.CRC32C, info.ChecksumCRC32C},
		{hashing.SHA256, info.ChecksumSHA256},
		{hashing.SHA1, info.ChecksumSHA1},
	} {
		// A checksum of parts' checksums ends in their number, so it is no Base64.
		if raw, err := base64.StdEncoding.DecodeString(kept.text); err == nil && len(raw) == kept.kind.Size() {
			return object, hashing.New(kept.kind, raw), nil
		}
	}
	return object, hashing.Digest{}, nil
}

// object makes the object of an answer to HEAD.
func object(op, bucket, key string, info minio.ObjectInfo) (uploads.Object, error) {
	if err := pins(info.ETag); err != nil {
		return uploads.Object{}, &Error{Kind: Transient, Op: op, Bucket: bucket, Key: key, Err: err}
	}
	if info.Size < 0 {
		return uploads.Object{}, &Error{Kind: Transient, Op: op, Bucket: bucket, Key: key, Err: errors.New("the answer names no size")}
	}
	return uploads.Object{Bucket: bucket, Key: key, Version: version(info.VersionID), ETag: info.ETag, Size: info.Size}, nil
}

// maxETag bounds an ETag, in bytes; those seen have up to 50.
const maxETag = 1 << 10

// pins says what is wrong with an ETag that does not tell one object's bytes from
// another's. An answer without a good one is no object's: something on the way has
// given or changed it.
func pins(etag string) error {
	switch {
	case etag == "":
		return errors.New("the answer has no ETag")
	case strings.HasPrefix(etag, "W/"):
		return fmt.Errorf("its ETag is weak (%.60s), so reads cannot be bound to these bytes; have what is between here and the bucket change no answers", etag)
	case len(etag) > maxETag || strings.ContainsFunc(etag, func(r rune) bool { return r < ' ' || r > '~' || r == '"' }):
		return fmt.Errorf("its ETag cannot be used (%.60q)", etag)
	}
	return nil
}

// version drops "null", the name that S3 gives to objects stored without a
// version: they are overwritten in place, so it pins nothing.
func version(id string) string {
	if id == "null" {
		return ""
	}
	return id
}

// Open starts one ranged GET of length bytes from offset, under If-Match with
// the object's ETag, and of its version if it has one. The range must lie within
// obj.Size; an object of another size is Changed. The body streams from the
// connection: nothing is read ahead, and closing it early drops the connection.
// Read returns an *Error that wraps io.ErrUnexpectedEOF if fewer than length
// bytes come. Cancelling the context ends a read in hand.
func (s *Store) Open(ctx context.Context, obj uploads.Object, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 || offset+length > obj.Size || length == 0 && obj.Size > 0 {
		return nil, fmt.Errorf("open %s: range of %d bytes at %d is not within %d bytes", obj.URL(), length, offset, obj.Size)
	}
	if obj.ETag == "" {
		return nil, fmt.Errorf("open %s: the object has no ETag to be read by", obj.URL())
	}
	opts := minio.GetObjectOptions{VersionID: obj.Version}
	opts.Set("If-Match", `"`+obj.ETag+`"`)
	if length > 0 { // an empty object has no range
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
	raw, info, header, err := s.core.GetObject(ctx, obj.Bucket, obj.Key, opts)
	if err != nil {
		return nil, classify("open", obj.Bucket, obj.Key, err)
	}
	of, ranged := readRange(header.Get("Content-Range"))
	weak := pins(info.ETag)
	switch {
	case weak != nil:
		// Nothing says that this is the object, or another one.
		_ = raw.Close()
		return nil, &Error{Kind: Transient, Op: "open", Bucket: obj.Bucket, Key: obj.Key, Err: weak}
	case info.ETag != obj.ETag:
		_ = raw.Close()
		return nil, &Error{
			Kind: Changed, Op: "open", Bucket: obj.Bucket, Key: obj.Key,
			Err: fmt.Errorf("its ETag is %s, not %s", info.ETag, obj.ETag),
		}
	case ranged && of.size >= 0 && of.size != obj.Size:
		// The size may come from the submitter. If it were too small, the media
		// would be cut short and every digest would agree.
		_ = raw.Close()
		return nil, &Error{
			Kind: Changed, Op: "open", Bucket: obj.Bucket, Key: obj.Key,
			Err: fmt.Errorf("the answer is %.60q, not of %d bytes", header.Get("Content-Range"), obj.Size),
		}
	case length < obj.Size && (!ranged || of.first != offset || of.last != offset+length-1):
		// Other bytes of the object than were asked for, from its beginning perhaps.
		_ = raw.Close()
		return nil, &Error{
			Kind: Transient, Op: "open", Bucket: obj.Bucket, Key: obj.Key,
			Err: fmt.Errorf("the answer is of %.60q where %d bytes at %d were asked for", header.Get("Content-Range"), length, offset),
		}
	case info.Size >= 0 && info.Size != length:
		_ = raw.Close()
		return nil, &Error{
			Kind: Transient, Op: "open", Bucket: obj.Bucket, Key: obj.Key,
			Err: fmt.Errorf("the answer has %d bytes where %d were asked for", info.Size, length),
		}
	}
	return &body{raw: raw, obj: obj, left: length}, nil
}

// byteRange is what a Content-Range says.
type byteRange struct{ first, last, size int64 } // size is -1 where it is not told

// readRange reads a Content-Range, such as "bytes 0-99/1000".
func readRange(text string) (r byteRange, ok bool) {
	unit, rest, _ := strings.Cut(text, " ")
	bytes, size, _ := strings.Cut(rest, "/")
	first, last, _ := strings.Cut(bytes, "-")
	var errs [3]error
	r.first, errs[0] = strconv.ParseInt(first, 10, 64)
	r.last, errs[1] = strconv.ParseInt(last, 10, 64)
	if size == "*" {
		r.size = -1
	} else {
		r.size, errs[2] = strconv.ParseInt(size, 10, 64)
	}
	return r, strings.EqualFold(unit, "bytes") && errors.Join(errs[:]...) == nil
}

// body passes the response body through and counts, so that an early end is an
// error even if the answer named no length.
type body struct {
	raw  io.ReadCloser
	obj  uploads.Object
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left && b.left > 0 {
		p = p[:b.left]
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.raw.Read(p)
	b.left -= int64(n)
	if err == nil || err == io.EOF && b.left == 0 {
		return n, err //nolint:wrapcheck // io.EOF must stay itself
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, &Error{Kind: Transient, Op: "read", Bucket: b.obj.Bucket, Key: b.obj.Key, Err: err}
}

func (b *body) Close() error {
	if err := b.raw.Close(); err != nil {
		return &Error{Kind: Transient, Op: "close", Bucket: b.obj.Bucket, Key: b.obj.Key, Err: err}
	}
	return nil
}

// List calls yield for each object whose key starts with prefix, in the
// order of the server, page by page. Sizes and ETags are those of the listing;
// versions are not known. It stops at yield's first error and returns it as it is.
func (s *Store) List(ctx context.Context, bucket, prefix string, yield func(uploads.Object) error) error {
	withOwner := false
	opts := minio.ListObjectsOptions{Prefix: prefix, Recursive: true, FetchOwner: &withOwner}
	for info := range s.read.ListObjectsIter(ctx, bucket, opts) {
		if info.Err != nil {
			return classify("list", bucket, prefix, info.Err)
		}
		if err := yield(uploads.Object{Bucket: bucket, Key: info.Key, ETag: info.ETag, Size: info.Size}); err != nil {
			return err
		}
	}
	// minio-go ends the sequence without an error when the context ends.
	if err := ctx.Err(); err != nil {
		return classify("list", bucket, prefix, context.Cause(ctx))
	}
	return nil
}
