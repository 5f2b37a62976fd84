package upstreams

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
	callInHand

	r     *http.Request
	query url.Values

	library, space string
	names          []string // of the file; or the confirm key alone
	flag           string
	task           *smhTask // that the call names by key or uploadId; nil if there is none
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

// route finds out which call a request is and what it is about. Action is "" if
// there is no such call.
func (s *SMH) route(r *http.Request) *smhCall {
	c := &smhCall{
		callInHand: callInHand{Call: Call{At: time.Now(), Method: r.Method}, body: r.Body}, r: r, query: r.URL.Query(),
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
	if !s.meetFault(r.Context(), &c.callInHand) {
		s.record(c)
		return
	}
	fault := c.fault
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
	case !fault.Reset && fault.ErrorCode != "":
		answer = smhRefuse(fault.ErrorCode, "%s", asked(r))
		if fault.Status != 0 {
			answer.status = fault.Status
		}
		if fault.RetryAfter > 0 {
			answer.header = map[string]string{"Retry-After": strconv.Itoa(fault.RetryAfter)}
		}
		c.answer(w, answer)
	case fault.answered(w):
	default:
		c.answer(w, answer)
	}
}

// record logs the call and adds its body to its task. It comes before the
// answer, so a caller that has its answer finds the call in the log.
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
	id := randomHex(8)
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
	body, err := io.ReadAll(io.LimitReader(c, smhMaxJSON)) // not under the lock
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
	token := "acctk01" + randomHex(24)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = t
	return smhAnswer{status: http.StatusOK, body: map[string]any{"accessToken": token, "expiresIn": period}}
}

// authenticate checks the access token and prolongs its life. Files may be
// opened without one, as in a library that anybody may read.
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

// smhGranted reports whether one of the grants allows the call. Reading needs
// none.
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
