package upstreams

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
	// Strict accepts what the documents and their recommended readings say, and
	// nothing besides: the two HMAC schemes, a Key header that is the token's
	// key, one bput for a ctx, blocks in order, and a file of the size that mkfile
	// says. Otherwise the service behaves as its published trace shows and as
	// older clients expect.
	Strict bool
	// TokenLife is how long upload tokens are valid; 0 is an hour.
	TokenLife time.Duration
	// ListDelay is how long a finished video stays out of the list.
	ListDelay time.Duration
	// Rate bounds the calls of each kind to the control API, per account and five
	// minutes. The platform documents 300; 0 is no bound.
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

// wcsBlock is a block up to the chunk that made one ctx. Only continued ever
// changes: another chunk makes another ctx.
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

// AddFaults puts faults into force. At the storage, Code is a status with its
// JSON and File an object key; at the control API, Code is a code of the API and
// File the fileId or videoId. A form upload is matched by its Action alone.
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

// Purge drops the blocks of an unfinished file, as the platform does after a
// long silence.
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

// begin finds the fault for the call and waits as long as it says; false if
// the caller left meanwhile.
func (w *WCS) begin(c *callInHand, r *http.Request) bool {
	if !w.meetFault(r.Context(), c) {
		w.calls.add(c.Call)
		return false
	}
	return true
}

// end reads the rest of the body, logs the call and answers it, or does as the
// fault says. The call is logged and its bytes are counted for v before the
// answer goes out.
func (w *WCS) end(rw http.ResponseWriter, c *callInHand, v *wcsVideo, reply, failed wcsReply) {
	c.fault.drain(c, maxDrain)
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
