package upstreams

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mediaferry/internal/hashing"
)

// Calls of the storage's XML API.
const (
	COSPutObject   = "PutObject"
	COSGetObject   = "GetObject"
	COSHeadObject  = "HeadObject"
	COSInitiate    = "InitiateMultipartUpload"
	COSUploadPart  = "UploadPart"
	COSListParts   = "ListParts"
	COSListUploads = "ListMultipartUploads"
	COSComplete    = "CompleteMultipartUpload"
	COSAbort       = "AbortMultipartUpload"
)

// Bounds of the storage.
const (
	cosMinPart  = 1 << 20 // bytes, of every part but the last
	cosMaxPut   = 5 << 30 // bytes, of a part or an object in one call
	cosMaxParts = 10_000
	cosMaxList  = 1000
	cosMaxXML   = 2 << 20 // bytes of a part list
)

// COSConfig is what a COS is made of.
type COSConfig struct {
	Keys    map[string]string // SecretKey by SecretId
	Buckets []string          // with the APPID, such as example-1250000000
	// Dir keeps the bytes, one file for each part; it must exist. Empty
	// discards them: parts and objects still have their true MD5 and CRC, but
	// cannot be fetched.
	Dir string
	// MinPart is the least size of every part but the last, in bytes; 0 is the
	// platform's, 1 MiB.
	MinPart int64
}

// COS stands in for Tencent's object storage, as far as uploads need it. The
// bucket is the one that the request's Host names, such as
// example-1250000000.cos.ap-guangzhou.myqcloud.com, wherever the request was
// sent. COS is an http.Handler, safe for use by many goroutines.
type COS struct {
	local

	config  COSConfig
	buffers *buffers

	mu       sync.Mutex
	granted  map[string]cosKey // temporary keys, by SecretId
	uploads  map[string]*cosUpload
	objects  map[cosPlace]*cosObject
	received map[cosPlace]*COSFile
	sequence int
}

// cosKey is a temporary key for some places.
type cosKey struct {
	account   string // whose it is
	secretKey string
	token     string
	expires   time.Time
	places    []cosPlace
}

type cosPlace struct{ bucket, key string }

type cosUpload struct {
	cosPlace
	id        string
	account   string
	initiated time.Time
	parts     map[int]cosPart
}

// cosPart is bytes that came in one call.
type cosPart struct {
	size     int64
	md5      string // lower-case hex
	crc      hashing.Digest
	path     string // of the kept bytes; "" when discarded
	modified time.Time
}

type cosObject struct {
	cosPlace
	pieces   []cosPart
	size     int64
	etag     string // without quotes
	crc      hashing.Digest
	modified time.Time
}

// COSFile is what was received of one object.
type COSFile struct {
	Bucket        string `json:"bucket"`
	Key           string `json:"key"`
	Size          int64  `json:"size"`           // 0 until it is stored
	BytesReceived int64  `json:"bytes_received"` // above Size, bytes were sent twice
	Puts          int    `json:"puts"`           // parts, or the object in one call
	Completes     int    `json:"completes"`      // that succeeded
	CRC64         string `json:"crc64,omitempty"`
	Stored        bool   `json:"stored"`
}

// NewCOS returns an empty storage.
func NewCOS(config COSConfig) *COS {
	if config.MinPart == 0 {
		config.MinPart = cosMinPart
	}
	return &COS{
		config:   config,
		buffers:  newBuffers(),
		granted:  make(map[string]cosKey),
		uploads:  make(map[string]*cosUpload),
		objects:  make(map[cosPlace]*cosObject),
		received: make(map[cosPlace]*COSFile),
	}
}

// Files returns what was received, by bucket and key.
func (c *COS) Files() []COSFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := make([]COSFile, 0, len(c.received))
	for _, f := range c.received {
		files = append(files, *f)
	}
	slices.SortFunc(files, func(a, b COSFile) int { return strings.Compare(a.Bucket+"/"+a.Key, b.Bucket+"/"+b.Key) })
	return files
}

// Forget drops the unfinished uploads of the key, as a bucket's lifecycle rule does.
func (c *COS) Forget(bucket, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, u := range c.uploads {
		if u.cosPlace == (cosPlace{bucket, key}) {
			c.drop(id)
		}
	}
}

// ExpireKeys ends the life of all temporary keys.
func (c *COS) ExpireKeys() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.granted {
		k.expires = time.Now().Add(-time.Second)
		c.granted[id] = k
	}
}

// grant makes a temporary key of the account for the places.
func (c *COS) grant(account string, expires time.Time, places ...cosPlace) (secretID string, key cosKey) {
	var random [36]byte
	_, _ = rand.Read(random[:]) // never fails
	secretID = "AKIDtmp" + hex.EncodeToString(random[:8])
	key = cosKey{
		account: account, secretKey: hex.EncodeToString(random[8:20]),
		token: base64.StdEncoding.EncodeToString(random[20:]), expires: expires, places: places,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.granted[secretID] = key
	return secretID, key
}

// ServeHTTP answers the calls of the XML API and /_local.
func (c *COS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !c.serveLocal(w, r, func() any { return c.Files() }) {
		c.serveCall(w, r)
	}
}

// cosCall is one call on its way through the storage.
type cosCall struct {
	callInHand
	cosPlace

	r     *http.Request
	query url.Values
}

// cosAnswer is what a call is answered with; the zero one is an empty 200.
type cosAnswer struct {
	status  int
	header  http.Header
	body    any        // XML
	object  *cosObject // whose bytes are the body
	refusal *cosRefusal
}

func cosRefused(code, format string, args ...any) cosAnswer {
	return cosAnswer{refusal: cosRefuse(code, format, args...)}
}

// cosStored answers with what is known of stored bytes.
func cosStored(etag string, crc hashing.Digest) cosAnswer {
	number, _ := strconv.ParseUint(crc.Sum, 16, 64) // the digits are our own
	return cosAnswer{header: http.Header{
		"Etag":                 {`"` + etag + `"`},
		"X-Cos-Hash-Crc64ecma": {strconv.FormatUint(number, 10)},
	}}
}

// serveCall authenticates the call, lets a fault have its way, carries it out
// and logs it.
func (c *COS) serveCall(w http.ResponseWriter, r *http.Request) {
	bucket, _, _ := strings.Cut(r.Host, ".cos.")
	key := strings.TrimPrefix(r.URL.Path, "/")
	call := &cosCall{
		callInHand: callInHand{Call: Call{At: time.Now(), Method: r.Method, File: key}, body: r.Body},
		cosPlace:   cosPlace{bucket, key}, r: r, query: r.URL.Query(),
	}
	call.Action = cosAction(r.Method, key, call.query)
	call.Part, _ = strconv.Atoi(call.query.Get("partNumber"))
	refusal := c.authenticate(call)
	if !c.meetFault(r.Context(), &call.callInHand) {
		c.record(call)
		return
	}
	if call.fault.BytesPerSecond == 0 {
		bits, _ := strconv.Atoi(r.Header.Get("X-Cos-Traffic-Limit")) // judged later
		call.body = slowed(r.Context(), call.body, bits/8)
	}
	answer := cosAnswer{refusal: refusal}
	if refusal == nil && call.fault.carriesOut() {
		answer = c.apply(call)
	}
	call.fault.drain(call, maxDrain)
	var said string
	if answer.refusal != nil {
		said = answer.refusal.Code + " " + answer.refusal.Message
	}
	call.Outcome = call.fault.outcome(said)
	c.record(call)
	c.answer(w, call, answer)
}

func (c *COS) answer(w http.ResponseWriter, call *cosCall, a cosAnswer) {
	id := fmt.Sprintf("local-%d", call.At.UnixNano())
	w.Header().Set("Server", "tencent-cos")
	w.Header().Set("X-Cos-Request-Id", id)
	switch f := call.fault; {
	case !f.Reset && f.ErrorCode != "":
		a = cosRefused(f.ErrorCode, "%s", asked(call.r))
		if f.Status != 0 {
			a.refusal.status = f.Status
		}
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
	case f.answered(w):
		return
	}
	if a.refusal != nil {
		a.status, a.body = a.refusal.status, a.refusal
		a.refusal.Resource, a.refusal.RequestID, a.refusal.TraceID = call.r.Host+call.r.URL.Path, id, id
		w.Header().Set("X-Cos-Trace-Id", id)
	}
	maps.Copy(w.Header(), a.header)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		if a.object != nil {
			c.copyTo(w, a.object)
		}
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, xml.Header) // the client may be gone
	_ = xml.NewEncoder(w).Encode(a.body)
}

// record logs the call and adds its body to its file. It comes before the
// answer, so a caller that has its answer finds the call in the log.
func (c *COS) record(call *cosCall) {
	c.calls.add(call.Call)
	if call.Action != COSPutObject && call.Action != COSUploadPart {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file(call.cosPlace)
	f.BytesReceived += call.Received
	f.Puts++
}

// file returns the counts of what was received for the place. The caller holds
// c.mu.
func (c *COS) file(p cosPlace) *COSFile {
	f := c.received[p]
	if f == nil {
		f = &COSFile{Bucket: p.bucket, Key: p.key}
		c.received[p] = f
	}
	return f
}

// cosAction returns the name of the call, "" if there is no such call.
func cosAction(method, key string, query url.Values) string {
	switch {
	case key == "" && method == http.MethodGet && query.Has("uploads"):
		return COSListUploads
	case key == "":
		return ""
	case method == http.MethodPut && query.Has("uploadId"):
		return COSUploadPart
	case method == http.MethodPut:
		return COSPutObject
	case method == http.MethodPost && query.Has("uploads"):
		return COSInitiate
	case method == http.MethodPost && query.Has("uploadId"):
		return COSComplete
	case method == http.MethodGet && query.Has("uploadId"):
		return COSListParts
	case method == http.MethodGet:
		return COSGetObject
	case method == http.MethodHead:
		return COSHeadObject
	case method == http.MethodDelete && query.Has("uploadId"):
		return COSAbort
	default:
		return ""
	}
}

// authenticate checks the bucket and the signature.
func (c *COS) authenticate(call *cosCall) *cosRefusal {
	text := call.r.Header.Get("Authorization")
	if text == "" { // the same fields may stand in the query
		var fields []string
		for name, values := range call.query {
			if strings.HasPrefix(name, "q-") {
				fields = append(fields, name+"="+values[0])
			}
		}
		text = strings.Join(fields, "&")
	}
	a, err := parseCOSAuthorization(text)
	if err != nil {
		return cosRefuse("AccessDenied", "%v", err)
	}
	key, refusal := c.keyOf(call, a.secretID)
	switch {
	case refusal != nil:
		return refusal
	case !hmac.Equal([]byte(a.expected(key, call.r)), []byte(a.signature)):
		return cosRefuse("SignatureDoesNotMatch", "the signature is not that of the request")
	case !a.inForce(time.Now()):
		return cosRefuse("AccessDenied", "Request has expired")
	case !slices.Contains(c.config.Buckets, call.bucket):
		return cosRefuse("NoSuchBucket", "there is no bucket %q", call.bucket)
	}
	return nil
}

// keyOf returns the SecretKey of a permanent or temporary key.
func (c *COS) keyOf(call *cosCall, secretID string) (string, *cosRefusal) {
	call.Account = secretID
	if key, ok := c.config.Keys[secretID]; ok {
		return key, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.granted[secretID]
	if !ok {
		return "", cosRefuse("InvalidAccessKeyId", "SecretId %q is not known", secretID)
	}
	call.Account = k.account
	// A listing of uploads is for a prefix, not for a key.
	place := call.cosPlace
	if call.Action == COSListUploads {
		place.key = call.query.Get("prefix")
	}
	switch {
	case call.r.Header.Get("X-Cos-Security-Token") != k.token:
		return "", cosRefuse("AccessDenied", "the token is not that of the key")
	case time.Now().After(k.expires):
		return "", cosRefuse("ExpiredToken", "the token has expired")
	case !slices.Contains(k.places, place):
		return "", cosRefuse("AccessDenied", "the key is for other objects")
	}
	return k.secretKey, nil
}

// apply carries out an authenticated call.
func (c *COS) apply(call *cosCall) cosAnswer {
	if limit := call.r.Header.Get("X-Cos-Traffic-Limit"); limit != "" {
		if bits, err := strconv.Atoi(limit); err != nil || bits < 819_200 || bits > 838_860_800 {
			return cosRefused("InvalidArgument", "x-cos-traffic-limit %q is not 819200 to 838860800", limit)
		}
	}
	switch call.Action {
	case COSPutObject:
		return c.putObject(call)
	case COSGetObject, COSHeadObject:
		return c.getObject(call)
	case COSInitiate:
		return c.initiate(call)
	case COSUploadPart:
		return c.uploadPart(call)
	case COSListParts:
		return c.listParts(call)
	case COSListUploads:
		return c.listUploads(call)
	case COSComplete:
		return c.complete(call)
	case COSAbort:
		return c.abort(call)
	default:
		return cosRefused("MethodNotAllowed", "%s is not for this", call.Method)
	}
}
