package upstreams

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Calls of the video service: two of its control API, four of its storage.
const (
	ActionGetUploadToken = "getUploadToken"
	ActionGetVideoList   = "getVideoList"
	ActionMakeBlock      = "mkblk"
	ActionPutChunk       = "bput"
	ActionMakeFile       = "mkfile"
	ActionForm           = "upload"
)

// Codes of the control API.
const (
	wcsOK          = 200
	wcsParameter   = 1000
	wcsNameTooLong = 1500
	wcsIDOdd       = 1504
	wcsMD5Empty    = 1604
	wcsMD5TooLong  = 1605
	wcsNameEmpty   = 1606
	wcsOverwrite   = 1608
)

const (
	wcsBucket    = "local-cloudv"
	wcsTokenLife = time.Hour
	wcsRatePer   = 5 * time.Minute
)

// WCSConfig is what a WCS is made of.
type WCSConfig struct {
	Keys map[string]string // SecretKey by AccessKey ID of the control API
	// Dir keeps the bytes, one file for each object key; it must exist. Empty
	// discards them: digests and hashes are computed all the same, but the media
	// cannot be fetched.
	Dir string
	// Strict takes what the documents and their recommended readings say, and
	// nothing besides: the two HMAC schemes, a Key header that is the token's
	// key, one bput for a ctx, blocks in order, and a file that has the size that
	// mkfile says. Lenient, the service does as its published trace shows and
	// older clients expect.
	Strict bool
	// TokenLife is how long upload tokens are good; 0 is an hour.
	TokenLife time.Duration
	// ListDelay is how long a finished video stays out of the list.
	ListDelay time.Duration
	// Rate bounds the calls of each kind to the control API, per account and five
	// minutes; 0 is no bound, 300 what the platform documents.
	Rate int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// WCS stands in for CDNetworks' video service: its control API and the storage
// that the bytes go to. It is an http.Handler, safe for use by many goroutines.
type WCS struct {
	local

	config    WCSConfig
	now       func() time.Time
	started   time.Time
	accessKey string // of the bucket, by which tokens are signed
	secretKey string
	keeper    *keeper
	forms     atomic.Int64 // names the files that form uploads are kept in

	mu     sync.Mutex
	videos map[string]*wcsVideo // by object key
	open   map[wcsFile]*wcsVideo
	blocks map[string]*wcsBlock // by ctx
	rates  map[string][]time.Time
}

// wcsFile is what an unfinished video is known by.
type wcsFile struct{ account, fileID string }

type wcsVideo struct {
	wcsFile
	id   string
	key  string
	name string
	path string // of the kept blocks; "" when discarded
	tail atomic.Int64

	mu       sync.Mutex // guards what follows
	received int64      // bytes of bodies that bring media, repeats included
	finishes int        // calls that made the file
	hash     string     // set once finished
	content  *segments
	finished time.Time
	host     string
}

// wcsBlock is a block as far as one ctx has it. It never changes, but for
// continued: another chunk makes another ctx.
type wcsBlock struct {
	key       string // of the object
	batch     string
	index     int
	size      int64 // bytes, as announced
	stored    int64 // bytes
	list      []segment
	sums      *pieces
	continued bool // guarded by WCS.mu
}

// WCSFile is what was received of one video.
type WCSFile struct {
	VideoID       string `json:"video_id"`
	Key           string `json:"key"`
	FileID        string `json:"file_id,omitempty"`
	Account       string `json:"account"`
	Name          string `json:"name"`
	Size          int64  `json:"size"`           // bytes; 0 until finished
	BytesReceived int64  `json:"bytes_received"` // above Size, bytes were sent twice
	FinishCount   int    `json:"finish_count"`
	Hash          string `json:"hash,omitempty"`
	URL           string `json:"url,omitempty"`
}

// NewWCS returns an empty platform.
func NewWCS(config WCSConfig) *WCS {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.TokenLife == 0 {
		config.TokenLife = wcsTokenLife
	}
	return &WCS{
		config: config, now: config.Now, started: config.Now(),
		accessKey: randomHex(20), secretKey: randomHex(20), keeper: newKeeper(),
		videos: make(map[string]*wcsVideo), open: make(map[wcsFile]*wcsVideo),
		blocks: make(map[string]*wcsBlock), rates: make(map[string][]time.Time),
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// AddFaults puts faults into force. Code is a status of the storage with its
// JSON, or a code of the control API; File is an object key, or the fileId or
// videoId of a call to the control API. A form upload is known by its Action alone.
func (w *WCS) AddFaults(faults ...Fault) { w.local.AddFaults(faults...) }

// Files returns what was received, by object key.
func (w *WCS) Files() []WCSFile {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.videos))
	w.mu.Unlock()
	files := make([]WCSFile, 0, len(all))
	for _, v := range all {
		v.mu.Lock()
		f := WCSFile{
			VideoID: v.id, Key: v.key, FileID: v.fileID, Account: v.account, Name: v.name,
			BytesReceived: v.received, FinishCount: v.finishes, Hash: v.hash,
		}
		if v.content != nil {
			f.Size = v.content.size()
			f.URL = "http://" + v.host + (&url.URL{Path: "/media/" + v.key}).EscapedPath()
		}
		v.mu.Unlock()
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b WCSFile) int { return strings.Compare(a.Key, b.Key) })
	return files
}

// Purge drops the blocks of an unfinished file, as the platform does with
// those that were left alone for long.
func (w *WCS) Purge(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.blocks, func(_ string, b *wcsBlock) bool { return b.key == key })
}

// ServeHTTP answers the control API, the storage, finished media and /_local.
func (w *WCS) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case w.serveLocal(rw, r, func() any { return w.Files() }):
	case strings.HasPrefix(r.URL.Path, "/media/"):
		w.serveMedia(rw, r)
	case strings.HasPrefix(r.URL.Path, "/vod/videoManage/"):
		w.serveControl(rw, r)
	default:
		w.serveData(rw, r)
	}
}

// serveMedia answers GET /media/<object key> with the kept bytes.
func (w *WCS) serveMedia(rw http.ResponseWriter, r *http.Request) {
	v := w.video(strings.TrimPrefix(r.URL.Path, "/media/"))
	if v == nil {
		http.NotFound(rw, r)
		return
	}
	v.mu.Lock()
	content := v.content
	v.mu.Unlock()
	switch {
	case content == nil:
		http.NotFound(rw, r)
	case w.config.Dir == "":
		http.Error(rw, "the bytes were discarded on arrival", http.StatusGone)
	default:
		http.ServeContent(rw, r, path.Base(v.key), w.started, io.NewSectionReader(content, 0, content.size()))
	}
}

func (w *WCS) video(key string) *wcsVideo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.videos[key]
}

// wcsEnvelope is the JSON of the control API's answers.
type wcsEnvelope struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// wcsReply is an answer and its HTTP status.
type wcsReply struct {
	status int
	body   any // JSON, or a string as it is
}

func (a wcsReply) write(rw http.ResponseWriter) {
	if text, ok := a.body.(string); ok {
		rw.WriteHeader(a.status)
		_, _ = io.WriteString(rw, text) // the client may be gone
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("X-Reqid", randomHex(8))
	rw.WriteHeader(a.status)
	_ = json.NewEncoder(rw).Encode(a.body) // as above
}

func controlRefusal(status, code int, format string, args ...any) wcsReply {
	return wcsReply{status, wcsEnvelope{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// wcsCall is one call on its way through the server.
type wcsCall struct {
	Call

	body  io.Reader
	fault Fault
}

// Read counts what is read of the body.
func (c *wcsCall) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.Received += int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// begin finds the fault that is for the call and waits as it says; false if
// the caller left meanwhile.
func (w *WCS) begin(c *wcsCall, r *http.Request) bool {
	c.fault = w.faults.hit(c.Action, c.Account, c.File)
	c.body = slowed(r.Context(), c.body, c.fault.BytesPerSecond)
	if c.fault.DelayMS > 0 && wait(r.Context(), time.Duration(c.fault.DelayMS)*time.Millisecond) != nil {
		c.Outcome = "the caller left"
		w.calls.add(c.Call)
		return false
	}
	return true
}

// end reads the rest of the body, logs the call and answers it, or does as the
// fault says. The call is in the log, and its bytes are counted for v, before
// the caller hears of it.
func (w *WCS) end(rw http.ResponseWriter, c *wcsCall, v *wcsVideo, reply, failed wcsReply) {
	// A caller that is still sending when the answer comes may see a broken
	// connection in place of it.
	rest := int64(64 << 20)
	if c.fault.Reset {
		rest = max(c.fault.AfterBytes-c.Received, 0)
	}
	_, _ = io.CopyN(io.Discard, c, rest) // the caller may send less
	var refusal string
	if reply.status != http.StatusOK {
		refusal = fmt.Sprintf("%d %+v", reply.status, reply.body)
	}
	c.Outcome = c.fault.outcome(refusal)
	w.calls.add(c.Call)
	if v != nil && c.Action != ActionMakeFile { // whose body is a list, not media
		v.mu.Lock()
		v.received += c.Received
		v.mu.Unlock()
	}
	switch {
	case c.fault.answered(rw):
	case c.fault.Code != 0:
		failed.write(rw)
	default:
		reply.write(rw)
	}
}

// serveControl authenticates a call of the control API, lets a fault have its
// way and carries it out.
func (w *WCS) serveControl(rw http.ResponseWriter, r *http.Request) {
	c := &wcsCall{
		Call: Call{At: w.now(), Action: strings.TrimPrefix(r.URL.Path, "/vod/videoManage/"), Method: r.Method},
		body: r.Body,
	}
	payload, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if err != nil {
		return // the caller left
	}
	params, perr := controlParams(r, payload)
	account, err := verifyControl(r, payload, w.config.Keys, w.now(), !w.config.Strict)
	c.Account, c.File = account, params.Get("fileId")+params.Get("videoId")
	if !w.begin(c, r) {
		return
	}
	var reply wcsReply
	switch {
	case err != nil:
		reply = controlRefusal(http.StatusUnauthorized, http.StatusUnauthorized, "%v", err)
	case perr != nil:
		reply = controlRefusal(http.StatusOK, wcsParameter, "%v", perr)
	case !w.withinRate(account + " " + c.Action):
		reply = controlRefusal(http.StatusTooManyRequests, http.StatusTooManyRequests, "more than %d calls in %s", w.config.Rate, wcsRatePer)
	case !c.fault.carriesOut():
	case c.Action == ActionGetUploadToken:
		reply = w.getUploadToken(c, r.Host, params)
	case c.Action == ActionGetVideoList:
		reply = w.getVideoList(c, params)
	default:
		reply = controlRefusal(http.StatusNotFound, http.StatusNotFound, "no call %q", c.Action)
	}
	w.end(rw, c, nil, reply, controlRefusal(http.StatusOK, c.fault.Code, "%s", asked(r)))
}

// withinRate counts a call of the kind and reports whether there may be one more.
func (w *WCS) withinRate(kind string) bool {
	if w.config.Rate == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.now().Add(-wcsRatePer)
	recent := slices.DeleteFunc(w.rates[kind], func(at time.Time) bool { return at.Before(since) })
	if len(recent) < w.config.Rate {
		w.rates[kind] = append(recent, w.now())
		return true
	}
	w.rates[kind] = recent
	return false
}

// controlParams reads the parameters from the query, a form, or a JSON object.
func controlParams(r *http.Request, payload []byte) (url.Values, error) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	var params url.Values
	var err error
	switch {
	case r.Method == http.MethodGet:
		params, err = url.ParseQuery(r.URL.RawQuery)
	case r.Method != http.MethodPost:
		return nil, fmt.Errorf("method %s", r.Method)
	case strings.TrimSpace(kind) == "application/json":
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		var object map[string]any
		if err = d.Decode(&object); err == nil {
			params = make(url.Values, len(object))
			for name, value := range object {
				params.Set(name, fmt.Sprint(value))
			}
		}
	default:
		params, err = url.ParseQuery(string(payload))
	}
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return params, nil
}

// getUploadToken names a video and grants its upload. The breakpoint id of an
// unfinished one leads to it again, under a fresh token.
func (w *WCS) getUploadToken(c *wcsCall, host string, params url.Values) wcsReply {
	name, id, overwrite := params.Get("originFileName"), params.Get("fileId"), params.Get("overwrite")
	sum := params.Get("fileMd5")
	switch {
	case name == "":
		return controlRefusal(http.StatusOK, wcsNameEmpty, "The video name cannot be empty")
	case utf8.RuneCountInString(name) > 40:
		return controlRefusal(http.StatusOK, wcsNameTooLong, "The file name has exceeded 40 characters")
	case overwrite != "" && overwrite != "0" && overwrite != "1":
		return controlRefusal(http.StatusOK, wcsOverwrite, "Parameter overwrite is neither 0 nor 1")
	case params.Has("fileMd5") && sum == "":
		return controlRefusal(http.StatusOK, wcsMD5Empty, "The file MD5 value cannot be empty")
	case len(sum) > 32:
		return controlRefusal(http.StatusOK, wcsMD5TooLong, "The length of MD5 string is too long")
	case len(id) > 32:
		return controlRefusal(http.StatusOK, wcsParameter, "fileId has more than 32 characters")
	}
	v := w.openVideo(wcsFile{c.Account, id}, name)
	policy := map[string]any{
		"scope":    wcsBucket + ":" + v.key,
		"deadline": strconv.FormatInt(w.now().Add(w.config.TokenLife).UnixMilli(), 10),
	}
	if overwrite == "1" {
		policy["overwrite"] = 1
	}
	text, _ := json.Marshal(policy) // strings and a number always have a JSON form
	return wcsReply{http.StatusOK, wcsEnvelope{Code: wcsOK, Message: "Operation successfully", Data: map[string]string{
		"speedDomainlUrl": "",
		"bucketName":      wcsBucket,
		"uploadUrl":       "http://" + host,
		"uploadToken":     mintToken(w.accessKey, w.secretKey, text),
		"fileKey":         v.key,
		"httpDnsServer":   "",
		"videoId":         v.id,
	}}}
}

func (w *WCS) openVideo(file wcsFile, name string) *wcsVideo {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.open[file]; v != nil && file.fileID != "" {
		return v
	}
	ext := path.Ext(name)
	v := &wcsVideo{
		wcsFile: file, id: randomHex(16), name: name,
		key: fmt.Sprintf("video/%s/%s/%s_%s%s", w.now().UTC().Format("20060102"), randomHex(16),
			strings.TrimSuffix(path.Base(name), ext), randomHex(16), ext),
	}
	if w.config.Dir != "" {
		v.path = path.Join(w.config.Dir, v.id)
	}
	w.videos[v.key] = v
	if file.fileID != "" {
		w.open[file] = v
	}
	return v
}

// getVideoList lists finished videos of the account, newest first; of the
// filters it has videoId and videoName.
func (w *WCS) getVideoList(c *wcsCall, params url.Values) wcsReply {
	page, size := 1, 10
	for name, into := range map[string]*int{"pageIndex": &page, "pageSize": &size} {
		if !params.Has(name) {
			continue
		}
		n, err := strconv.Atoi(params.Get(name))
		if err != nil || n < 1 {
			return controlRefusal(http.StatusOK, wcsParameter, "%s %q is not a number from 1", name, params.Get(name))
		}
		*into = n
	}
	id := params.Get("videoId")
	switch {
	case size > 50 || page*size >= 100_000:
		return controlRefusal(http.StatusOK, wcsParameter, "pageSize %d or pageIndex %d is too large", size, page)
	case strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }):
		return controlRefusal(http.StatusOK, wcsIDOdd, "The videoId has special characters")
	}
	type entry struct {
		VideoID     string `json:"videoId"`
		VideoName   string `json:"videoName"`
		VideoSize   int64  `json:"videoSize"`
		UploadTime  string `json:"uploadTime"`
		VideoState  int    `json:"videoState"`
		Transcode   int    `json:"transcodeState"`
		VideoSource int    `json:"videoSourceCode"`
		finished    time.Time
	}
	found := []entry{}
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.videos))
	w.mu.Unlock()
	for _, v := range all {
		if v.account != c.Account || (id != "" && v.id != id) || !strings.Contains(v.name, params.Get("videoName")) {
			continue
		}
		v.mu.Lock()
		if v.content != nil && !w.now().Before(v.finished.Add(w.config.ListDelay)) {
			found = append(found, entry{
				VideoID: v.id, VideoName: v.name, VideoSize: v.content.size(), UploadTime: v.finished.UTC().Format(time.DateTime),
				Transcode: 2, VideoSource: 1, finished: v.finished,
			})
		}
		v.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b entry) int { return b.finished.Compare(a.finished) })
	total := len(found)
	found = found[min((page-1)*size, total):min(page*size, total)]
	return wcsReply{http.StatusOK, wcsEnvelope{Code: wcsOK, Message: "Operation successfully", Data: map[string]any{
		"videoTotal": total, "videoListInfo": found,
	}}}
}
