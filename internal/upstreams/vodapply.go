package upstreams

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Actions of the upload by way of the object storage.
const (
	ActionApply  = "ApplyUpload"
	ActionCommit = "CommitUpload"
)

// Codes of API v2.
const (
	applyCodeParameter = 4000
	applyCodeSignature = 4100
	applyCodeSecretID  = 4104
	applyCodeSession   = 31001
	applyCodeInternal  = 32001
)

// Bounds of the API.
const (
	maxApplyBody = 1 << 20          // bytes
	v3ClockSkew  = 5 * time.Minute  // of API 3.0
	grantLife    = 2 * time.Hour    // of temporary keys
	sessionLife  = 24 * time.Hour   // of session keys
	actionNone   = "no such action" // in the log
)

// VODApplyConfig is what a VODApply is made of.
type VODApplyConfig struct {
	Keys   map[string]string // SecretKey by SecretId
	Dir    string            // keeps the bytes; it must exist. Empty discards them
	Strict bool              // API 3.0 with TC3 only, API v2 without replays and milliseconds

	// OwnKeys hands out no temporary keys in API 3.0: the caller signs at the
	// storage with its own, as it always does in API v2.
	OwnKeys bool
	// GrantLife is how long temporary keys last, 2 hours if zero.
	GrantLife time.Duration
	// Renews takes a session key in ApplyUpload and answers with fresh keys for
	// the same place; the documents do not say whether the platform does.
	Renews bool
	// MinPart is the storage's, see COSConfig.
	MinPart int64
	// TakesPaths stores media where ApplyUpload asks.
	TakesPaths bool
	// CommitsOnce refuses a session key that was committed before; the documents
	// do not say what the platform does.
	CommitsOnce bool
}

// VODApply stands in for Tencent VOD's ApplyUpload and CommitUpload, API v2 and
// 3.0, and for the object storage behind them: requests whose Host names a
// bucket are for the storage. It is an http.Handler, safe for use by many
// goroutines.
type VODApply struct {
	config  VODApplyConfig
	storage *COS

	mu       sync.Mutex
	sessions map[string]*applySession // by session key
	media    map[string]*applySession // by file id
	nonces   vodNonces                // of API v2, where they must not come twice
	sequence uint64
}

// applySession is one ApplyUpload and what came of it. VODApply.mu guards the
// fields after expires; the others never change.
type applySession struct {
	key      string
	account  string
	place    cosPlace // of the media
	cover    string   // key; "" if none was asked for
	expires  time.Time
	fileID   string // set once committed
	url      string
	coverURL string
	commits  int // that succeeded
}

// AppliedFile is what was received of one media file or its cover.
type AppliedFile struct {
	COSFile

	Account     string `json:"account"`
	FileID      string `json:"file_id,omitempty"`
	URL         string `json:"url,omitempty"`
	CommitCount int    `json:"commit_count"`
}

// The bucket of the local platform.
const (
	applyBucket = "6c0f1c00vodgzp251000333"
	applyAppID  = 1250000000
	applyRegion = "ap-guangzhou-2"
)

// NewVODApply returns an empty platform with a storage of its own.
func NewVODApply(config VODApplyConfig) *VODApply {
	if config.GrantLife == 0 {
		config.GrantLife = grantLife
	}
	return &VODApply{
		config: config,
		storage: NewCOS(COSConfig{
			Keys: config.Keys, Dir: config.Dir, MinPart: config.MinPart, Buckets: []string{fmt.Sprintf("%s-%d", applyBucket, applyAppID)},
		}),
		sessions: make(map[string]*applySession),
		media:    make(map[string]*applySession),
		sequence: uint64(time.Now().UnixNano()),
	}
}

// Storage returns the object storage behind the API. Both share one log of calls
// and one list of faults.
func (v *VODApply) Storage() *COS { return v.storage }

// Files returns what was received, by bucket and key.
func (v *VODApply) Files() []AppliedFile {
	stored := v.storage.Files()
	v.mu.Lock()
	defer v.mu.Unlock()
	of := make(map[cosPlace]*applySession)
	for _, s := range v.sessions {
		of[s.place] = s
		if s.cover != "" {
			of[cosPlace{s.place.bucket, s.cover}] = s
		}
	}
	files := make([]AppliedFile, len(stored))
	for i, f := range stored {
		files[i].COSFile = f
		if s := of[cosPlace{f.Bucket, f.Key}]; s != nil {
			files[i].Account, files[i].FileID, files[i].CommitCount, files[i].URL = s.account, s.fileID, s.commits, s.url
			if f.Key == s.cover {
				files[i].URL = s.coverURL
			}
		}
	}
	return files
}

// ServeHTTP answers the API, the storage, finished media and /_local.
func (v *VODApply) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/_local/files":
		writeJSON(w, v.Files())
	case strings.HasPrefix(r.URL.Path, "/_local/"), strings.Contains(r.Host, ".cos."):
		v.storage.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/media/"):
		v.serveMedia(w, r)
	case r.URL.Path == "/v2/index.php", r.URL.Path == "/":
		v.serveAction(w, r)
	default:
		http.NotFound(w, r)
	}
}

// applyCall is one call on its way through the API.
type applyCall struct {
	Call
	r      *http.Request
	v3     bool
	body   []byte
	params url.Values // by the names of API v2 in lower-case first letters
}

// applyRefusal is an error in both APIs' words.
type applyRefusal struct {
	code    int    // of API v2
	name    string // of API 3.0
	message string
}

func applyRefuse(code int, name, format string, args ...any) *applyRefusal {
	return &applyRefusal{code: code, name: name, message: fmt.Sprintf(format, args...)}
}

// serveAction authenticates the call, lets a fault have its way, carries it
// out and logs it.
func (v *VODApply) serveAction(w http.ResponseWriter, r *http.Request) {
	c := &applyCall{Call: Call{At: time.Now(), Method: r.Method, Action: actionNone}, r: r, v3: r.URL.Path == "/"}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxApplyBody))
	c.body, c.Received = body, int64(len(body))
	var refusal *applyRefusal
	switch {
	case err != nil:
		refusal = applyRefuse(applyCodeParameter, "InvalidParameter", "the body broke off: %v", err)
	case c.v3:
		refusal = v.authenticateV3(c)
	default:
		refusal = v.authenticateV2(c)
	}
	session := v.session(c.params.Get("vodSessionKey"), c.Account)
	if session != nil {
		c.File = session.place.key
	}
	fault := v.storage.faults.hit(c.Action, c.Account, c.File)
	if !fault.delay(r.Context(), &c.Call) {
		v.storage.calls.add(c.Call)
		return
	}
	var answer any
	if refusal == nil && fault.carriesOut() {
		answer, refusal = v.apply(c, session)
	}
	var said string
	if refusal != nil {
		said = refusal.name + " " + refusal.message
	}
	c.Outcome = fault.outcome(said)
	v.storage.calls.add(c.Call)
	switch {
	case fault.answered(w):
		return
	case fault.Code != 0 || fault.ErrorCode != "":
		refusal = applyRefuse(fault.Code, fault.ErrorCode, "%s", asked(r))
	}
	if refusal != nil {
		answer = refusal.answer(c)
	}
	writeJSON(w, answer)
}

// answer returns the refusal in the form of the API that was called.
func (r *applyRefusal) answer(c *applyCall) any {
	if c.v3 {
		return map[string]any{"Response": map[string]any{
			"Error": map[string]string{"Code": r.name, "Message": r.message}, "RequestId": c.requestID(),
		}}
	}
	return map[string]any{"code": r.code, "message": r.message, "codeDesc": r.name}
}

func (c *applyCall) requestID() string { return fmt.Sprintf("local-%d", c.At.UnixNano()) }

// session returns the account's session of the key that is still good, or nil.
func (v *VODApply) session(key, account string) *applySession {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sessions[key]
	if s == nil || s.account != account || time.Now().After(s.expires) {
		return nil
	}
	return s
}

// apply carries out an authenticated call and answers in the form of the API
// that was called.
func (v *VODApply) apply(c *applyCall, s *applySession) (any, *applyRefusal) {
	switch c.Action {
	case ActionApply:
		return v.open(c, s)
	case ActionCommit:
		return v.commit(c, s)
	default:
		return nil, applyRefuse(applyCodeParameter, "InvalidAction", "Action %q is not known", c.Action)
	}
}

// open answers ApplyUpload with a new place, or with fresh keys for an old one.
func (v *VODApply) open(c *applyCall, renewed *applySession) (any, *applyRefusal) {
	if refusal := checkApply(c.params); refusal != nil {
		return nil, refusal
	}
	s := renewed
	switch {
	case c.params.Has("vodSessionKey") && v.config.Renews && s == nil:
		return nil, applyRefuse(applyCodeSession, "InvalidParameterValue.VodSessionKey", "the session key is not known")
	case s == nil || !v.config.Renews:
		s = v.newSession(c)
	}
	cover := ""
	if s.cover != "" {
		cover = "/" + s.cover
	}
	if !c.v3 {
		answer := map[string]any{
			"code": 0, "message": "", "codeDesc": "Success", "storageAppId": applyAppID, "storageBucket": applyBucket,
			"storageRegion": "gzp", "storageRegionV5": applyRegion, "vodSessionKey": s.key,
			"video": map[string]string{"storagePath": "/" + s.place.key, "storageSignature": ""},
		}
		if cover != "" {
			answer["cover"] = map[string]string{"storagePath": cover, "storageSignature": ""}
		}
		return answer, nil
	}
	answer := map[string]any{
		"StorageBucket": s.place.bucket, "StorageRegion": applyRegion, "VodSessionKey": s.key,
		"MediaStoragePath": "/" + s.place.key, "CoverStoragePath": nil, "TempCertificate": nil, "RequestId": c.requestID(),
	}
	if cover != "" {
		answer["CoverStoragePath"] = cover
	}
	if !v.config.OwnKeys {
		expires := time.Now().Add(v.config.GrantLife)
		id, key := v.storage.grant(s.account, expires, s.place, cosPlace{s.place.bucket, s.cover})
		answer["TempCertificate"] = map[string]any{
			"SecretId": id, "SecretKey": key.secretKey, "Token": key.token, "ExpiredTime": expires.Unix(),
		}
	}
	return map[string]any{"Response": answer}, nil
}

// checkApply checks what both APIs say of the parameters.
func checkApply(params url.Values) *applyRefusal {
	bad := func(name, format string, args ...any) *applyRefusal {
		return applyRefuse(applyCodeParameter, "InvalidParameterValue."+name, format, args...)
	}
	plain := func(kind string) bool { return kind != "" && !strings.ContainsAny(kind, "./\\") }
	switch {
	case !plain(params.Get("videoType")):
		return bad("MediaType", "the media's type %q is no type", params.Get("videoType"))
	case params.Has("coverType") && !plain(params.Get("coverType")):
		return bad("CoverType", "the cover's type %q is no type", params.Get("coverType"))
	case len(params.Get("sourceContext")) > 250:
		return bad("SourceContext", "the source context has more than 250 bytes")
	case len(params.Get("sessionContext")) > 1000:
		return bad("SessionContext", "the session context has more than 1000 bytes")
	}
	if at := params.Get("expireTime"); at != "" {
		if _, err := time.Parse(time.RFC3339, at); err != nil {
			return bad("ExpireTime", "the expiry %q is no time", at)
		}
	}
	for _, name := range []string{"videoSize", "coverSize", "classId", "subAppId"} {
		if value := params.Get(name); value != "" {
			if _, err := strconv.ParseInt(value, 10, 64); err != nil {
				return bad("SubAppId", "%s %q is no number", name, value)
			}
		}
	}
	return nil
}

// newSession opens a session at a place of its own.
func (v *VODApply) newSession(c *applyCall) *applySession {
	var random [48]byte
	_, _ = rand.Read(random[:])                           // never fails
	random[0], random[1] = 0xfb, 0xff                     // so that the Base64 has + and /
	key := base64.StdEncoding.EncodeToString(random[:46]) // and =
	s := &applySession{
		key: key, account: c.Account, expires: time.Now().Add(sessionLife),
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sequence++
	folder := fmt.Sprintf("%s/%x%d", applyBucket, random[40:44], v.sequence)
	s.place = cosPlace{fmt.Sprintf("%s-%d", applyBucket, applyAppID), folder + "/f0." + c.params.Get("videoType")}
	if asked := strings.TrimPrefix(path.Clean("/"+c.params.Get("videoStoragePath")), "/"); asked != "" && v.config.TakesPaths {
		s.place.key = asked
	}
	if kind := c.params.Get("coverType"); kind != "" {
		s.cover = fmt.Sprintf("%s/%d.%s", folder, v.sequence+1, kind)
	}
	v.sessions[key] = s
	return s
}

// commit answers CommitUpload: the media gets its id if the storage has it,
// and its cover where one was asked for.
func (v *VODApply) commit(c *applyCall, s *applySession) (any, *applyRefusal) {
	if s == nil {
		return nil, applyRefuse(applyCodeSession, "InvalidParameterValue.VodSessionKey", "the session key is not known")
	}
	for _, key := range []string{s.place.key, s.cover} {
		if key != "" && v.storage.object(cosPlace{s.place.bucket, key}) == nil {
			return nil, applyRefuse(applyCodeInternal, "ResourceNotFound", "the storage has no object %q", key)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.fileID != "" && v.config.CommitsOnce {
		return nil, applyRefuse(applyCodeSession, "InvalidParameterValue.VodSessionKey", "the session key was committed before")
	}
	if s.fileID == "" {
		v.sequence++
		s.fileID = strconv.FormatUint(1<<63|v.sequence, 10)
		// The storage's own address is not to be reached from here: media are
		// served at the address that was called.
		s.url = fmt.Sprintf("http://%s/media/%s/%s", c.r.Host, s.fileID, path.Base(s.place.key))
		if s.cover != "" {
			s.coverURL = fmt.Sprintf("http://%s/media/%s/cover/%s", c.r.Host, s.fileID, path.Base(s.cover))
		}
		v.media[s.fileID] = s
	}
	s.commits++
	if c.v3 {
		answer := map[string]any{"FileId": s.fileID, "MediaUrl": s.url, "CoverUrl": nil, "RequestId": c.requestID()}
		if s.cover != "" {
			answer["CoverUrl"] = s.coverURL
		}
		return map[string]any{"Response": answer}, nil
	}
	answer := map[string]any{"code": 0, "message": "", "codeDesc": "Success", "fileId": s.fileID, "video": map[string]string{"url": s.url}}
	if s.cover != "" {
		answer["cover"] = map[string]string{"url": s.coverURL}
	}
	return answer, nil
}

// serveMedia answers GET /media/<fileId>/<name> and /media/<fileId>/cover/<name>
// with the kept bytes.
func (v *VODApply) serveMedia(w http.ResponseWriter, r *http.Request) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/media/"), "/")
	v.mu.Lock()
	s := v.media[id]
	v.mu.Unlock()
	if s == nil {
		http.NotFound(w, r)
		return
	}
	place := s.place
	if strings.HasPrefix(rest, "cover/") {
		place.key = s.cover
	}
	o := v.storage.object(place)
	switch {
	case o == nil:
		http.NotFound(w, r)
	case o.pieces[0].path == "":
		http.Error(w, "the bytes were discarded on arrival", http.StatusGone)
	default:
		w.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
		v.storage.copyTo(w, o)
	}
}
