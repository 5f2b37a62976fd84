package upstreams

import (
	"crypto/sha1" //nolint:gosec // the protocol identifies files by SHA-1
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Actions of the client-side part upload.
const (
	ActionInit   = "InitUploadEx"
	ActionPart   = "UploadPartEx"
	ActionFinish = "FinishUploadEx"
)

// maxBody bounds what is read of a body, in bytes: two parts.
const maxBody = 2 << 20

// Codes of the platform.
const (
	codeCommon    = -10001
	codeSignature = -10002
	codeProtocol  = -10003
	codeWrite     = -10004
	codeNotFound  = -10005
	codePacket    = -10006
)

// VODConfig is what a VOD is made of.
type VODConfig struct {
	Keys map[string]string // SecretKey by SecretId
	// Dir keeps the bytes, one file for each upload; it must exist. Empty
	// discards them: parts are still checked against their MD5, but the SHA-1 of
	// the whole is taken on trust and the media cannot be fetched.
	Dir string
	// Strict accepts what the documents say and nothing that the vendor's
	// clients send besides: /v2/index.php, GET for calls without a body,
	// "signature", fileSha in the query in lower case. Server-side uploads need
	// Region, a clock in seconds, this server's own name in the signed text and a
	// nonce for each call, and have no Report.
	Strict bool
	// VerifyKey, if set, adds verify_content to the answer of FinishUploadEx;
	// HexVerify gives its MAC in hex, as the published example has it.
	VerifyKey string
	HexVerify bool
}

// VOD stands in for Tencent VOD's part upload, client-side and server-side. The
// two differ in who signs what, and name uploads by the same keys. VOD is an
// http.Handler, safe for use by many goroutines.
type VOD struct {
	local

	config  VODConfig
	started time.Time
	buffers sync.Pool // of *[]byte, a part each

	mu       sync.Mutex
	uploads  map[vodKey]*vodUpload
	media    map[string]*vodUpload // by fileId
	oneTime  map[string]string     // fileSha by signature that is good for one upload
	nonces   vodNonces             // of the last hours, where they must not come twice
	sequence uint64
}

// vodKey is what the platform knows an upload by.
type vodKey struct{ account, fileSHA string }

type vodUpload struct {
	vodKey
	mu       sync.Mutex // guards what follows; held for the whole of Finish
	size     int64      // bytes; 0 until the upload is opened
	partSize int64      // bytes
	parts    map[int64]vodPart
	path     string // of the kept bytes; "" when discarded
	received int64  // bytes of bodies, repeats included
	fileType string // without the dot
	finishes int    // finishing calls that succeeded
	fileID   string // set once finished
	url      string
}

type vodPart struct {
	length int64
	md5    string
}

// VODFile is what was received of one file.
type VODFile struct {
	FileSHA       string `json:"file_sha"`
	Account       string `json:"account"`
	Size          int64  `json:"size"`
	BytesReceived int64  `json:"bytes_received"` // above Size, bytes were sent twice
	FinishCount   int    `json:"finish_count"`
	FileID        string `json:"file_id,omitempty"`
	URL           string `json:"url,omitempty"`
}

// NewVOD returns an empty platform.
func NewVOD(config VODConfig) *VOD {
	return &VOD{
		config:   config,
		started:  time.Now(),
		buffers:  sync.Pool{New: func() any { b := make([]byte, 1<<20+1); return &b }},
		uploads:  make(map[vodKey]*vodUpload),
		media:    make(map[string]*vodUpload),
		oneTime:  make(map[string]string),
		sequence: uint64(time.Now().UnixNano()),
	}
}

// Files returns what was received, by account and SHA-1.
func (v *VOD) Files() []VODFile {
	v.mu.Lock()
	all := slices.Collect(maps.Values(v.uploads))
	v.mu.Unlock()
	files := make([]VODFile, 0, len(all))
	for _, u := range all {
		u.mu.Lock()
		files = append(files, VODFile{
			FileSHA: u.fileSHA, Account: u.account, Size: u.size, BytesReceived: u.received,
			FinishCount: u.finishes, FileID: u.fileID, URL: u.url,
		})
		u.mu.Unlock()
	}
	slices.SortFunc(files, func(a, b VODFile) int { return strings.Compare(a.Account+a.FileSHA, b.Account+b.FileSHA) })
	return files
}

// Forget drops the account's unfinished upload of the file, as the platform does
// after a long silence.
func (v *VOD) Forget(account, fileSHA string) {
	key := vodKey{account, fileSHA}
	v.mu.Lock()
	u := v.uploads[key]
	v.mu.Unlock()
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fileID != "" {
		return // the media is complete; a late part belongs to it
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.uploads, key)
}

// ServeHTTP answers the actions, finished media and /_local.
func (v *VOD) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case v.serveLocal(w, r, func() any { return v.Files() }):
	case strings.HasPrefix(r.URL.Path, "/media/"):
		v.serveMedia(w, r)
	case r.URL.Path == "/v2/index.php" || (!v.config.Strict && r.URL.Path == "/v3/index.php"):
		v.serveAction(w, r)
	default:
		http.NotFound(w, r)
	}
}

// vodAnswer is the JSON of an answer.
type vodAnswer struct {
	Code          int             `json:"code"`
	Message       string          `json:"message"`
	CodeDesc      string          `json:"codeDesc"`
	CanRetry      int             `json:"canRetry"`
	DataSize      int64           `json:"dataSize,omitempty"`
	ListParts     []vodListedPart `json:"listParts,omitempty"`
	FileID        string          `json:"fileId,omitempty"`
	URL           string          `json:"url,omitempty"`
	VerifyContent string          `json:"verify_content,omitempty"`
}

type vodListedPart struct {
	Offset   int64  `json:"offset"`
	DataSize int64  `json:"dataSize"`
	DataMD5  string `json:"dataMd5"`
}

func vodRefusal(code, canRetry int, format string, args ...any) vodAnswer {
	return vodAnswer{Code: code, CanRetry: canRetry, Message: fmt.Sprintf(format, args...)}
}

// vodCall is one call on its way through the server.
type vodCall struct {
	callInHand

	step     vodStep
	claims   claims // of client-side uploads
	query    url.Values
	rawQuery string
	host     string
	path     string
}

// vodStep is what a call does, on whichever side it is made.
type vodStep string

const (
	vodInit   vodStep = "init"
	vodPut    vodStep = "part"
	vodFinish vodStep = "finish"
)

// stepOf returns "" for an action that is no step of an upload.
func stepOf(action string) vodStep {
	switch action {
	case ActionInit, ActionServerInit:
		return vodInit
	case ActionPart, ActionServerPart:
		return vodPut
	case ActionFinish, ActionServerFinish:
		return vodFinish
	}
	return ""
}

// serveAction authenticates the call, lets a fault have its way, carries it
// out and logs it.
func (v *VOD) serveAction(w http.ResponseWriter, r *http.Request) {
	c := &vodCall{
		callInHand: callInHand{
			Call: Call{At: time.Now(), Action: r.URL.Query().Get("Action"), Method: r.Method}, body: r.Body,
		},
		query:    r.URL.Query(), // never the form: parts arrive as form bodies from some clients
		rawQuery: r.URL.RawQuery,
		host:     r.Host,
		path:     r.URL.Path,
	}
	c.step = stepOf(c.Action)
	c.Offset, _ = strconv.ParseInt(c.query.Get("offset"), 10, 64)
	authenticate := v.authenticate
	if serverSide(c.Action) {
		authenticate = v.authenticateServer
	}
	refused, ok := authenticate(c)
	if !v.meetFault(r.Context(), &c.callInHand) {
		v.record(c)
		return
	}
	fault := c.fault
	c.body = flipped(c.body, fault)
	if fault.Forget {
		v.Forget(c.Account, c.File)
	}
	answer := refused
	if ok && fault.carriesOut() {
		answer = v.misreport(c, v.apply(c), fault)
	}
	fault.drain(c, maxBody)
	var refusal string
	if answer.Code < 0 || answer.Code > 2 {
		refusal = strconv.Itoa(answer.Code) + " " + answer.Message
	}
	c.Outcome = fault.outcome(refusal)
	v.record(c)
	switch {
	case fault.answered(w):
	case fault.Code != 0:
		writeJSON(w, vodRefusal(fault.Code, fault.CanRetry, "%s", asked(r)))
	default:
		writeJSON(w, answer)
	}
}

// record logs the call and adds its body to its file. It comes before the
// answer, so a caller that has its answer finds the call in the log.
func (v *VOD) record(c *vodCall) {
	v.calls.add(c.Call)
	v.mu.Lock()
	u := v.uploads[vodKey{c.Account, c.File}]
	v.mu.Unlock()
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.received += c.Received
}

// authenticate checks the common parameters and the signature.
func (v *VOD) authenticate(c *vodCall) (vodAnswer, bool) {
	signature := c.query.Get("signature")
	if signature == "" && !v.config.Strict {
		signature = c.query.Get("Signature")
	}
	got, err := verifySignature(signature, v.config.Keys, time.Now())
	c.claims, c.Account = got, got.account
	c.File = strings.ToLower(c.query.Get("fileSha"))
	if err != nil {
		return vodRefusal(codeSignature, 0, "%v", err), false
	}
	sha := c.query.Get("fileSha")
	if sha == "" && !v.config.Strict {
		c.File, sha = got.fileSHA, got.fileSHA
	}
	if refused, ok := v.checkFile(c, sha); !ok {
		return refused, false
	}
	switch {
	case got.fileSHA != "" && got.fileSHA != c.File:
		return vodRefusal(codeSignature, 0, "the signature is for file %s", got.fileSHA), false
	case got.oneTime && !v.bind(signature, c.File):
		return vodRefusal(codeSignature, 0, "the signature was used for another upload"), false
	}
	return v.checkMethod(c)
}

// checkFile checks that the call names a file by its SHA-1, sent as sha.
func (v *VOD) checkFile(c *vodCall, sha string) (vodAnswer, bool) {
	raw, err := hex.DecodeString(c.File)
	if err != nil || len(raw) != sha1.Size || (v.config.Strict && sha != c.File) {
		return vodRefusal(codeProtocol, 0, "fileSha %q is not a SHA-1 in lower-case hex", sha), false
	}
	return vodAnswer{}, true
}

// checkMethod checks that parts come by POST and other calls by GET, as
// documented. Unless strict, every call may come by POST, as the vendor's clients
// have it.
func (v *VOD) checkMethod(c *vodCall) (vodAnswer, bool) {
	want := http.MethodGet
	if c.step == vodPut {
		want = http.MethodPost
	}
	if c.Method != want && (c.step == vodPut || v.config.Strict || c.Method != http.MethodPost) {
		return vodRefusal(codeCommon, 0, "%s is called by %s", c.Action, want), false
	}
	return vodAnswer{}, true
}

// bind ties a one-time signature to a file. It reports false if the signature
// was used for another file.
func (v *VOD) bind(signature, fileSHA string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.oneTime[signature] == "" {
		v.oneTime[signature] = fileSHA
	}
	return v.oneTime[signature] == fileSHA
}
