package upstreams

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
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

// Actions of SMH. The platform's documents give its calls titles only.
const (
	ActionSMHToken   = "CreateToken"
	ActionSMHStart   = "StartUpload"
	ActionSMHPart    = "UploadPart"
	ActionSMHRenew   = "RenewUpload"
	ActionSMHStatus  = "UploadStatus"
	ActionSMHConfirm = "ConfirmUpload"
	ActionSMHCancel  = "CancelUpload"
	ActionSMHInfo    = "FileInfo"
	ActionSMHOpen    = "OpenFile"
)

// Bounds of the platform.
const (
	smhMinPart    = 1 << 20 // bytes; the last part may be smaller
	smhMaxPart    = 5 << 30
	smhMaxParts   = 10_000
	smhMinInstant = 1 << 20
	smhMaxName    = 255
	smhBadName    = `\:*?"<>|`

	smhMinPeriod, smhPeriod, smhMaxPeriod = 300, 86_400, 315_360_000 // seconds
	smhMinSpeed, smhMaxSpeed              = 100 << 10, 100 << 20     // bytes a second
)

// SMHConfig is what an SMH is made of.
type SMHConfig struct {
	Libraries map[string]string // secret by library id
	// Directories are those that each space has beside its root, such as
	// "films/2026". Uploading makes none.
	Directories []string
	// Dir keeps the bytes, one file for each part; it must exist. Empty discards
	// them: digests are still made of all that comes, but the hashes for instant
	// upload are taken on trust and files cannot be fetched.
	Dir string
	// Strict takes what the documents say and nothing of what the vendor's
	// clients send besides: flags without a value, size as a string, the
	// Content-Type that was handed out.
	Strict bool
	// InfoLife is how long headers for parts are good for; 0 is an hour.
	InfoLife time.Duration
	// TolerantConfirm answers a repeated confirm with the file, not UploadComplete.
	TolerantConfirm bool
	// MinPart is the least size of every part but the last, in bytes; 0 is the
	// platform's, 1 MiB.
	MinPart int64
	// Quota bounds what the files of a library take, in bytes; 0 is no bound.
	Quota int64
}

// SMH stands in for Tencent Smart Media Hosting: its API, and the object
// storage that takes the parts, both at one address. Of the ways to upload it
// knows the one in parts. It is an http.Handler, safe for use by many goroutines.
type SMH struct {
	local

	config SMHConfig
	key    string // that headers are signed with

	mu       sync.Mutex // guards what follows and all that hangs on it
	tokens   map[string]smhToken
	tasks    map[string]*smhTask    // by confirm key
	uploads  map[string]*smhTask    // by uploadId
	files    map[string]*smhFile    // by library/space/path
	contents map[string]*smhContent // by object path
	issued   uint64                 // headers handed out
	sequence uint64                 // files of parts
}

type smhToken struct {
	library string
	spaces  []string // nil for all
	grants  []string
	period  time.Duration
	expires time.Time
}

type smhState int

const (
	smhOpen smhState = iota
	smhConfirmed
	smhGone // cancelled or forgotten
)

// smhTask is an upload that was started.
type smhTask struct {
	library, space string
	names          []string // directories and name
	strategy       string
	force          bool
	confirmKey     string
	uploadID       string
	object         string // path
	speed          int    // bytes a second, 0 for no bound
	size           int64  // as announced, -1 if it was not
	claimed        string // hashes as announced, beginning and full
	meta           map[string]string
	created        time.Time

	state    smhState
	oldest   uint64 // number of the oldest headers in force
	parts    map[int]smhPart
	file     *smhFile // once confirmed
	received int64    // bytes of bodies, repeats included
	confirms int      // that succeeded
}

type smhPart struct {
	length int64
	md5    string
	crc    hashing.Digest
	path   string // of the kept bytes; "" when discarded
	at     time.Time
}

// smhContent is the bytes of one or more files.
type smhContent struct {
	library string
	object  string // path
	size    int64
	crc     hashing.Digest
	etag    string
	parts   []smhPart

	hashing sync.Once
	hashes  string // beginning and full, from the bytes or else as claimed
}

type smhFile struct {
	*smhContent

	space             string
	names             []string
	created, modified time.Time
	meta              map[string]string
	overwritten       bool
}

// SMHFile is what was received of one upload.
type SMHFile struct {
	Library       string `json:"library"`
	Space         string `json:"space"`
	Path          string `json:"path"` // asked for; FinalPath may differ
	ConfirmKey    string `json:"confirm_key"`
	BytesReceived int64  `json:"bytes_received"` // above Size, bytes were sent twice
	ConfirmCount  int    `json:"confirm_count"`
	Cancelled     bool   `json:"cancelled,omitempty"` // or forgotten
	Size          int64  `json:"size,omitempty"`      // once confirmed
	FinalPath     string `json:"final_path,omitempty"`
	URL           string `json:"url,omitempty"` // path at this server
}

// NewSMH returns a platform with its libraries empty.
func NewSMH(config SMHConfig) *SMH {
	if config.InfoLife == 0 {
		config.InfoLife = time.Hour
	}
	if config.MinPart == 0 {
		config.MinPart = smhMinPart
	}
	return &SMH{
		config:   config,
		key:      smhRandom(20),
		tokens:   make(map[string]smhToken),
		tasks:    make(map[string]*smhTask),
		uploads:  make(map[string]*smhTask),
		files:    make(map[string]*smhFile),
		contents: make(map[string]*smhContent),
	}
}

func smhRandom(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// Files returns what was received, by the time of the start.
func (s *SMH) Files() []SMHFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.SortedFunc(maps.Values(s.tasks), func(a, b *smhTask) int { return a.created.Compare(b.created) })
	files := make([]SMHFile, len(all))
	for i, t := range all {
		files[i] = SMHFile{
			Library: t.library, Space: t.space, Path: strings.Join(t.names, "/"), ConfirmKey: t.confirmKey,
			BytesReceived: t.received, ConfirmCount: t.confirms, Cancelled: t.state == smhGone,
		}
		if t.file != nil {
			files[i].Size, files[i].FinalPath, files[i].URL = t.file.size, strings.Join(t.file.names, "/"), t.file.object
		}
	}
	return files
}

// Forget drops an unfinished task and its parts, as the platform does with one
// that was left alone for long.
func (s *SMH) Forget(confirmKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[confirmKey]; t != nil {
		t.drop()
	}
}

// ForgetStatus drops all that is known of a task, be it confirmed; its file stays.
func (s *SMH) ForgetStatus(confirmKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[confirmKey]; t != nil {
		t.state = smhGone
	}
}

// ExpireHeaders makes the headers that were handed out for a task lapse.
func (s *SMH) ExpireHeaders(confirmKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[confirmKey]; t != nil {
		t.oldest = s.issued + 1
	}
}

// ExpireTokens makes all access tokens lapse.
func (s *SMH) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// ServeHTTP answers the API, the object storage and /_local.
func (s *SMH) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.serveLocal(w, r, func() any { return s.Files() }) {
		return
	}
	c := s.route(r)
	if c.Action == "" && r.Method == http.MethodGet && s.serveObject(w, r) {
		return
	}
	s.serveCall(w, r, c)
}

// smhCall is one call on its way through the server.
type smhCall struct {
	Call
	r     *http.Request
	query url.Values
	body  io.Reader
	fault Fault

	library, space string
	names          []string // of the file; or the confirm key alone
	flag           string
	task           *smhTask // that the call names by key or uploadId; nil if there is none
}

// Read counts what is read of the body.
func (c *smhCall) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.Received += int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// smhAnswer is the answer to a call: a refusal where code is set, else body as
// JSON where there is one.
type smhAnswer struct {
	status  int
	header  map[string]string
	code    string
	message string
	body    any
}

// smhRefusal is the body of a refusal. The object storage writes it as XML.
type smhRefusal struct {
	XMLName      xml.Name `json:"-"            xml:"Error"`
	Code         string   `json:"code"         xml:"Code"`
	Message      string   `json:"message"      xml:"Message"`
	Resource     string   `json:"-"            xml:"Resource"`
	RequestID    string   `json:"requestId"    xml:"RequestId"`
	SMHRequestID string   `json:"smhRequestId" xml:"-"`
}

func smhRefuse(code, format string, args ...any) smhAnswer {
	return smhAnswer{status: smhStatus(code), code: code, message: fmt.Sprintf(format, args...)}
}

// smhStatus returns the HTTP status that a code of the platform goes with.
func smhStatus(code string) int {
	switch code {
	case "InvalidAccessToken", "NoPermission", "AccessTokenNotMatchLibrary", "AccessTokenNotMatchSpace", "WriteForbidden",
		"LibraryInitializing", "LibraryServiceExpired", "SpaceBanned", "AccessDenied":
		return http.StatusForbidden
	case "WrongLibraryIdOrSecret", "LibraryNotFound", "SpaceNotFound", "DirectoryNotFound", "FileNotFound", "PathNotFound",
		"RouteNotFound", "ConfirmKeyNotFound", "UploadNotFound", "NoQuota", "NoSuchUpload":
		return http.StatusNotFound
	case "UploadComplete", "SameNameDirectoryOrFileExists", "PathConflict", "ContentCasConflict":
		return http.StatusConflict
	case "MissingContentLength":
		return http.StatusLengthRequired
	case "RateLimitExceeded":
		return http.StatusTooManyRequests
	case "SensitiveContentRecognized":
		return http.StatusUnavailableForLegalReasons
	case "InternalServerError":
		return http.StatusInternalServerError
	case "ServerOverloaded", "SlowDown":
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

// route tells which call a request is, and what it is about. Action is "" where
// there is no such call.
func (s *SMH) route(r *http.Request) *smhCall {
	c := &smhCall{
		Call: Call{At: time.Now(), Method: r.Method}, r: r, body: r.Body, query: r.URL.Query(),
	}
	rest, isFile := strings.CutPrefix(r.URL.Path, "/api/v1/file/") // an escaped slash parts names as well
	switch {
	case r.URL.Path == "/api/v1/token" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		c.Action, c.library = ActionSMHToken, c.query.Get("library_id")
	case isFile:
		names := strings.Split(strings.TrimSuffix(rest, "/"), "/")
		if len(names) < 3 {
			return c
		}
		c.library, c.space, c.names = names[0], names[1], names[2:]
		c.Action, c.flag = smhAction(r.Method, c.query)
		c.File = strings.Join(c.names, "/")
		s.mu.Lock()
		c.task = s.tasks[c.File]
		s.mu.Unlock()
	case r.Method == http.MethodPut && c.query.Has("uploadId"):
		c.Action = ActionSMHPart
		c.Part, _ = strconv.Atoi(c.query.Get("partNumber")) // judged later
		s.mu.Lock()
		c.task = s.uploads[c.query.Get("uploadId")]
		s.mu.Unlock()
	}
	if c.task != nil {
		c.library, c.File = c.task.library, strings.Join(c.task.names, "/")
	}
	c.Account = c.library
	return c
}

// smhAction tells calls on one path apart by their flag.
func smhAction(method string, query url.Values) (action, flag string) {
	for _, a := range []struct{ method, flag, action string }{
		{http.MethodPost, "multipart", ActionSMHStart},
		{http.MethodPost, "renew", ActionSMHRenew},
		{http.MethodPost, "confirm", ActionSMHConfirm},
		{http.MethodGet, "upload", ActionSMHStatus},
		{http.MethodDelete, "upload", ActionSMHCancel},
		{http.MethodGet, "info", ActionSMHInfo},
	} {
		if method == a.method && query.Has(a.flag) {
			return a.action, a.flag
		}
	}
	if method == http.MethodGet {
		return ActionSMHOpen, ""
	}
	return "", ""
}

// serveCall lets a fault have its way, carries the call out and logs it.
func (s *SMH) serveCall(w http.ResponseWriter, r *http.Request, c *smhCall) {
	c.fault = s.faults.hit(c.Action, c.Account, c.File)
	fault, ctx := c.fault, r.Context()
	c.body = slowed(ctx, r.Body, fault.BytesPerSecond)
	if fault.DelayMS > 0 && wait(ctx, time.Duration(fault.DelayMS)*time.Millisecond) != nil {
		c.Outcome = "the caller left"
		s.record(c)
		return
	}
	if fault.Forget && c.task != nil {
		s.Forget(c.task.confirmKey)
	}
	var answer smhAnswer
	if fault.carriesOut() {
		answer = s.apply(c)
	}
	fault.drain(c, smhMaxPart)
	var refusal string
	if answer.code != "" {
		refusal = answer.code + " " + answer.message
	}
	c.Outcome = fault.outcome(refusal)
	s.record(c)
	switch {
	case fault.Reset:
		reset(w)
	case fault.ErrorCode != "":
		answer = smhRefuse(fault.ErrorCode, "%s", asked(r))
		if fault.Status != 0 {
			answer.status = fault.Status
		}
		if fault.RetryAfter > 0 {
			answer.header = map[string]string{"Retry-After": strconv.Itoa(fault.RetryAfter)}
		}
		c.answer(w, answer)
	case fault.Status != 0:
		fault.statusAnswer(w)
	case fault.Text != "":
		_, _ = io.WriteString(w, fault.Text) // the client may be gone
	default:
		c.answer(w, answer)
	}
}

// record logs the call and adds its body to its task, before the caller hears
// of it: who has an answer finds the call in the log.
func (s *SMH) record(c *smhCall) {
	s.calls.add(c.Call)
	if c.task == nil || c.Action != ActionSMHPart {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.task.received += c.Received
}

func (c *smhCall) answer(w http.ResponseWriter, a smhAnswer) {
	id := smhRandom(8)
	h := w.Header()
	for name, value := range a.header {
		h.Set(name, value)
	}
	refusal := smhRefusal{Code: a.code, Message: a.message, Resource: c.r.URL.Path, RequestID: id, SMHRequestID: id}
	if c.Action == ActionSMHPart {
		h.Set("X-Cos-Request-Id", id)
		if a.code != "" {
			h.Set("Content-Type", "application/xml")
		}
		w.WriteHeader(a.status)
		if a.code != "" {
			_ = xml.NewEncoder(w).Encode(refusal) // the client may be gone
		}
		return
	}
	h.Set("X-Request-Id", id)
	h.Set("X-Smh-Request-Id", id)
	if a.code != "" {
		a.body = refusal
	}
	if a.body != nil {
		h.Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body) // the client may be gone
	}
}

// apply carries out a call.
func (s *SMH) apply(c *smhCall) smhAnswer {
	switch c.Action {
	case "":
		return smhRefuse("RouteNotFound", "%s %s is no call", c.Method, c.r.URL.Path)
	case ActionSMHToken:
		return s.token(c)
	case ActionSMHPart:
		return s.part(c)
	}
	if s.config.Strict && c.query.Get(c.flag) != "" {
		return smhRefuse("ParamInvalid", "%s has a value", c.flag)
	}
	if refused := s.authenticate(c); refused.code != "" {
		return refused
	}
	switch c.Action {
	case ActionSMHStart:
		return s.start(c)
	case ActionSMHInfo, ActionSMHOpen:
		return s.info(c)
	}
	body, err := io.ReadAll(io.LimitReader(c, 1<<20)) // not under the lock
	if err != nil {
		return smhRefuse("IncompleteBody", "%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := c.task
	switch {
	case t == nil || t.library != c.library || t.space != c.space:
		return smhRefuse("ConfirmKeyNotFound", "no such confirm key")
	case t.state == smhGone:
		return smhRefuse("UploadNotFound", "the task was cancelled or has lapsed")
	case c.Action == ActionSMHStatus:
		return s.status(c, t)
	case c.Action == ActionSMHConfirm:
		return s.confirm(c, t, body)
	case t.state == smhConfirmed:
		return smhRefuse("UploadComplete", "the task is complete")
	case c.Action == ActionSMHRenew:
		return smhAnswer{status: http.StatusOK, body: s.uploadInfo(c, t)}
	default:
		t.drop()
		return smhAnswer{status: http.StatusNoContent}
	}
}

// token makes an access token.
func (s *SMH) token(c *smhCall) smhAnswer {
	secret, ok := s.config.Libraries[c.library]
	if !ok || secret != c.query.Get("library_secret") {
		return smhRefuse("WrongLibraryIdOrSecret", "library %q is not known, or its secret is another", c.library)
	}
	period := int64(smhPeriod)
	if text := c.query.Get("period"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return smhRefuse("ParamInvalid", "period %q is not a number", text)
		}
		period = min(max(n, smhMinPeriod), smhMaxPeriod)
	}
	t := smhToken{
		library: c.library, grants: strings.Split(c.query.Get("grant"), ","),
		period: time.Duration(period) * time.Second,
	}
	if spaces := c.query.Get("space_id"); spaces != "" {
		t.spaces = strings.Split(spaces, ",")
	}
	t.expires = time.Now().Add(t.period)
	token := "acctk01" + smhRandom(24)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = t
	return smhAnswer{status: http.StatusOK, body: map[string]any{"accessToken": token, "expiresIn": period}}
}

// authenticate checks the access token, whose use prolongs it. Files may be
// opened without one, as in a library that is for the public to read.
func (s *SMH) authenticate(c *smhCall) smhAnswer {
	text := c.query.Get("access_token")
	if bearer, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer "); ok && text == "" {
		text = bearer
	}
	if text == "" && c.Action == ActionSMHOpen {
		return smhAnswer{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens[text]
	switch {
	case text == "":
		return smhRefuse("EmptyAccessToken", "there is no access token")
	case !ok || time.Now().After(t.expires):
		return smhRefuse("InvalidAccessToken", "the access token is not known or has lapsed")
	case t.library != c.library:
		return smhRefuse("AccessTokenNotMatchLibrary", "the access token is for another library")
	case t.spaces != nil && !slices.Contains(t.spaces, c.space):
		return smhRefuse("AccessTokenNotMatchSpace", "the access token is for another space")
	case !smhGranted(c.Action, t.grants):
		return smhRefuse("NoPermission", "the access token grants %q", t.grants)
	}
	t.expires = time.Now().Add(t.period)
	s.tokens[text] = t
	return smhAnswer{}
}

// smhGranted reports whether one of the grants is good for the call. To read
// takes none.
func smhGranted(action string, grants []string) bool {
	enough := []string{"admin", "space_admin", "upload_file", "upload_file_force"}
	switch action {
	case ActionSMHInfo, ActionSMHOpen:
		return true
	case ActionSMHConfirm:
		enough = append(enough, "confirm_upload")
	default:
		enough = append(enough, "begin_upload", "begin_upload_force")
	}
	return slices.ContainsFunc(grants, func(g string) bool { return slices.Contains(enough, g) })
}

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

// start opens a task, or makes the file where the bytes are there already.
func (s *SMH) start(c *smhCall) smhAnswer {
	raw, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if err != nil {
		return smhRefuse("IncompleteBody", "%v", err)
	}
	body, err := parseSMHStart(raw, s.config.Strict)
	if err != nil {
		return smhRefuse("ParamInvalid", "%v", err)
	}
	t := &smhTask{
		library: c.library, space: c.space, names: c.names, size: body.size, created: time.Now(),
		meta: make(map[string]string), parts: make(map[int]smhPart), claimed: body.BeginningHash + body.FullHash,
	}
	if text := c.query.Get("filesize"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return smhRefuse("ParamInvalid", "filesize %q is not a number of bytes", text)
		}
		t.size = n
	}
	if text := c.query.Get("traffic_limit"); text != "" {
		if t.speed, err = strconv.Atoi(text); err != nil || t.speed < smhMinSpeed || t.speed > smhMaxSpeed {
			return smhRefuse("ParamInvalid", "traffic_limit %q is not from %d to %d", text, smhMinSpeed, smhMaxSpeed)
		}
	}
	for name := range c.r.Header {
		if meta, ok := strings.CutPrefix(name, "X-Smh-Meta-"); ok {
			t.meta[strings.ToLower(meta)] = c.r.Header.Get(name)
		}
	}
	var refused smhAnswer
	if t.strategy, refused = smhStrategy(c.query, "rename"); refused.code != "" {
		return refused
	}
	t.force = t.strategy == "overwrite"
	for _, name := range t.names {
		switch {
		case name == "" || strings.ContainsAny(name, smhBadName):
			return smhRefuse("IllegalFileName", "name %q", name)
		case len(name) > smhMaxName:
			return smhRefuse("FileNameLengthExceed", "a name of %d bytes", len(name))
		}
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
	t.confirmKey, t.uploadID = smhRandom(32), smhRandom(24)
	t.object = "/" + url.PathEscape(t.library) + "/" + t.confirmKey[:32]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[t.confirmKey], s.uploads[t.uploadID] = t, t
	return smhAnswer{status: http.StatusCreated, body: s.uploadInfo(c, t)}
}

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

// findContent returns content of the library that the hashes of the body are
// of; whole says that this holds for more than its beginning.
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

// publish makes the file of the content. The caller holds the lock.
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

// info answers with a file, or with where its bytes are to be had.
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
		"creationTime": smhTime(f.created), "modificationTime": smhTime(f.modified),
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

// status answers how the task stands. The caller holds the lock.
func (s *SMH) status(c *smhCall, t *smhTask) smhAnswer {
	body := map[string]any{
		"confirmed": t.state == smhConfirmed, "path": t.names, "type": "file", "creationTime": smhTime(t.created),
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
			listed = append(listed, smhListedPart{PartNumber: n, LastModified: smhTime(p.at), ETag: strconv.Quote(p.md5), Size: p.length})
		}
	}
	info := s.uploadInfo(c, t)
	info["path"] = strings.TrimPrefix(t.object, "/") // as in the documents' sample
	delete(info, "confirmKey")
	body["uploadId"], body["parts"], body["uploadPartInfo"] = t.uploadID, listed, info
	return smhAnswer{status: http.StatusOK, body: body}
}

// pretended returns the parts that there would be of the announced size, in
// the size of part 1 where it is stored. The caller holds the lock.
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

func smhTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// smhCRC writes a CRC-64 as the platform does.
func smhCRC(d hashing.Digest) string {
	return strconv.FormatUint(binary.BigEndian.Uint64(d.Bytes()), 10)
}
