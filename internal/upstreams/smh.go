package upstreams

import (
	"encoding/binary"
	"maps"
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
	smhMaxJSON    = 1 << 20 // bytes of a body; this server's own bound
	smhMinInstant = 1 << 20
	smhMaxName    = 255
	smhBadName    = `\:*?"<>|`

	smhMinPeriod, smhPeriod, smhMaxPeriod = 300, 86_400, 315_360_000 // seconds
	smhMinSpeed, smhMaxSpeed              = 100 << 10, 100 << 20     // bytes a second
)

// SMHConfig is what an SMH is made of.
type SMHConfig struct {
	Libraries map[string]string // secret by library id
	// Directories that each space has besides its root, such as "films/2026".
	// Uploading makes none.
	Directories []string
	// Dir keeps the bytes, one file for each part; it must exist. Empty discards
	// them: digests are still made of all that comes, but the hashes for instant
	// upload are taken on trust and files cannot be fetched.
	Dir string
	// Strict accepts what the documents say and nothing that the vendor's
	// clients send besides: flags have no value, size is a string, Content-Type
	// is the one that was handed out.
	Strict bool
	// InfoLife is how long headers for parts are valid; 0 is an hour.
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
// storage that takes the parts, both at one address. It knows multipart uploads
// only. It is an http.Handler, safe for use by many goroutines.
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
		key:      randomHex(20),
		tokens:   make(map[string]smhToken),
		tasks:    make(map[string]*smhTask),
		uploads:  make(map[string]*smhTask),
		files:    make(map[string]*smhFile),
		contents: make(map[string]*smhContent),
	}
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

// Forget drops an unfinished task and its parts, as the platform does after a
// long silence.
func (s *SMH) Forget(confirmKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[confirmKey]; t != nil {
		t.drop()
	}
}

// ForgetStatus drops what is known of a task, even of a confirmed one; its file
// stays.
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

// smhCRC writes a CRC-64 as the platform does.
func smhCRC(d hashing.Digest) string {
	return strconv.FormatUint(binary.BigEndian.Uint64(d.Bytes()), 10)
}
