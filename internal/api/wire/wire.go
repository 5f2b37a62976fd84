// Package wire is the JSON of the HTTP API: internal/api serves these types
// and client reads them, so the two cannot drift apart. Sizes are in bytes,
// times are RFC 3339. Fields are only ever added: older clients talk to newer
// dispatchers during a deploy.
package wire

import "time"

// TenantHeader names the tenant of a request; without it, it is "default".
const TenantHeader = "X-Mediaferry-Tenant"

// Source names the staging object to read.
type Source struct {
	Bucket  string `json:"bucket" doc:"staging bucket"`
	Key     string `json:"key" doc:"key in the bucket"`
	Version string `json:"version,omitempty" doc:"version id; the latest if empty"`
	ETag    string `json:"etag,omitempty" doc:"refuse the submission if the object has another one by now"`
}

// Object is a staging object as it was found when the upload was accepted.
type Object struct {
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Version string `json:"version,omitempty"`
	ETag    string `json:"etag" doc:"pins the bytes: every read is made under it"`
	Size    int64  `json:"size" doc:"bytes"`
}

// Submission asks for one staging object to be brought to one account.
type Submission struct {
	Account        string            `json:"account" doc:"name of a configured account"`
	Source         Source            `json:"source"`
	Name           string            `json:"name,omitempty" doc:"file name at the platform; the key's last element if empty"`
	ContentType    string            `json:"content_type,omitempty"`
	Options        map[string]string `json:"options,omitempty" doc:"the provider's own options"`
	Labels         map[string]string `json:"labels,omitempty" doc:"kept and returned, for your reports"`
	Priority       int               `json:"priority,omitempty" doc:"higher goes first, -100 to 100"`
	NotBefore      time.Time         `json:"not_before,omitzero" doc:"nothing is sent before this time"`
	IdempotencyKey string            `json:"idempotency_key,omitempty" doc:"unique per tenant: the same key and content is the same upload"`
	Digests        []string          `json:"digests,omitempty" doc:"what is known of the bytes, as kind:hex"`
}

// PrefixSubmission asks for every object below a prefix.
type PrefixSubmission struct {
	Account     string            `json:"account" doc:"name of a configured account"`
	Bucket      string            `json:"bucket" doc:"staging bucket"`
	Prefix      string            `json:"prefix" doc:"what the keys begin with"`
	Match       string            `json:"match,omitempty" doc:"only keys of this pattern as a whole: * is any text without a slash, ? one character, [a-z] one of these; a backslash before them takes that away"`
	ContentType string            `json:"content_type,omitempty"`
	Options     map[string]string `json:"options,omitempty" doc:"the provider's own options"`
	Labels      map[string]string `json:"labels,omitempty" doc:"kept and returned, for your reports"`
	Priority    int               `json:"priority,omitempty" doc:"higher goes first, -100 to 100"`
	NotBefore   time.Time         `json:"not_before,omitzero" doc:"nothing is sent before this time"`
}

// PrefixResult is the answer to a PrefixSubmission.
type PrefixResult struct {
	Batch     string     `json:"batch,omitempty" doc:"ties the uploads together; empty if none was submitted"`
	Submitted int        `json:"submitted"`
	Rejected  []Rejected `json:"rejected" doc:"objects that were not taken"`
}

// Rejected is one object of a prefix that was not taken.
type Rejected struct {
	Key     string `json:"key"`
	Account string `json:"account,omitempty" doc:"where the prefix is bound for several"`
	Error   string `json:"error"`
}

// Upload is an upload as it stands.
type Upload struct {
	ID             string            `json:"id"`
	Tenant         string            `json:"tenant"`
	Account        string            `json:"account"`
	Provider       string            `json:"provider"`
	Batch          string            `json:"batch,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Source         Object            `json:"source"`
	Name           string            `json:"name"`
	ContentType    string            `json:"content_type,omitempty"`
	Options        map[string]string `json:"options,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Priority       int               `json:"priority"`
	NotBefore      time.Time         `json:"not_before,omitzero"`

	State         string   `json:"state" enum:"queued,digesting,beginning,uploading,finishing,completed,failed,cancelled"`
	Epoch         int      `json:"epoch" doc:"counts upstream sessions; 0 before the first"`
	PartSize      int64    `json:"part_size" doc:"bytes; 0 until planned"`
	PartCount     int      `json:"part_count"`
	AckedParts    int      `json:"acked_parts"`
	AckedBytes    int64    `json:"acked_bytes" doc:"bytes that the platform has confirmed"`
	FoundBytes    int64    `json:"found_bytes" doc:"of acked_bytes: already upstream when the session was opened"`
	DigestedBytes int64    `json:"digested_bytes" doc:"how far the digest pass has come"`
	Instant       bool     `json:"instant" doc:"the platform had the bytes already"`
	Asset         *Asset   `json:"asset,omitempty" doc:"the finished media"`
	Failure       *Failure `json:"failure,omitempty" doc:"why the upload failed"`

	SubmittedAt  time.Time `json:"submitted_at"`
	BegunAt      time.Time `json:"begun_at,omitzero"`
	FirstAckAt   time.Time `json:"first_ack_at,omitzero"`
	LastAckAt    time.Time `json:"last_ack_at,omitzero"`
	FinishedAt   time.Time `json:"finished_at,omitzero" doc:"when it was completed, failed or cancelled"`
	NextActionAt time.Time `json:"next_action_at,omitzero" doc:"when a step that waits is due"`
	WaitsFor     string    `json:"waits_for,omitempty" doc:"the upload that brings the same bytes to the account and goes first"`

	Paused     bool    `json:"paused" doc:"nothing is done for it until it, its account and its tenant are resumed"`
	Pauses     []Pause `json:"pauses,omitempty" doc:"what holds it"`
	Cancelling bool    `json:"cancelling,omitempty" doc:"cancelled while a finishing call may have taken effect: it ends as completed if that made an asset, else as cancelled"`
}

// Pause is one thing that holds uploads.
type Pause struct {
	Scope  string    `json:"scope" enum:"upload,account,tenant"`
	Name   string    `json:"name" doc:"of the account or tenant, or the upload's id"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty" doc:"who, as the caller said"`
	At     time.Time `json:"at"`
}

// Note says why something is done and who does it.
type Note struct {
	Reason string `json:"reason,omitempty" doc:"why, at most 500 bytes"`
	By     string `json:"by,omitempty" doc:"who, at most 500 bytes"`
}

// Change asks for an action on every upload that is selected.
type Change struct {
	Account string            `json:"account,omitempty" doc:"only uploads to this account"`
	States  []string          `json:"states,omitempty" enum:"queued,digesting,beginning,uploading,finishing,completed,failed,cancelled" doc:"only uploads in one of these states"`
	Batch   string            `json:"batch,omitempty" doc:"only uploads of this batch"`
	Causes  []string          `json:"causes,omitempty" doc:"only failed uploads with one of these causes"`
	Labels  map[string]string `json:"labels,omitempty" doc:"only uploads with all of these labels"`
	All     bool              `json:"all,omitempty" doc:"every upload of the tenant is meant; without it, something above must be given"`
	DryRun  bool              `json:"dry_run,omitempty" doc:"count and name uploads, change nothing"`
	Reason  string            `json:"reason,omitempty" doc:"why, at most 500 bytes"`
	By      string            `json:"by,omitempty" doc:"who, at most 500 bytes"`
}

// Changed is what a Change came to.
type Changed struct {
	DryRun  bool     `json:"dry_run"`
	Matched int      `json:"matched" doc:"selected uploads to which the action applies"`
	Changed int      `json:"changed" doc:"of these, changed"`
	First   []string `json:"first" doc:"ids of the first of them, from the oldest"`
}

// Final reports whether the upload has come to rest: completed, failed or cancelled.
func (u Upload) Final() bool {
	return u.State == "completed" || u.State == "failed" || u.State == "cancelled"
}

// Asset is the finished media at the platform.
type Asset struct {
	ID     string            `json:"id"`
	URL    string            `json:"url,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Failure says why an upload failed. Causes are stable: reports may group by them.
type Failure struct {
	Cause   string `json:"cause"`
	Code    string `json:"code,omitempty" doc:"the platform's own code"`
	Message string `json:"message"`
	Part    int    `json:"part,omitempty" doc:"the part that it was about"`
	Stage   string `json:"stage,omitempty" enum:"staging,transit,platform" doc:"where digests did not agree"`
	// Evidence is there where a person must look: cause needs_human.
	Evidence []Evidence `json:"evidence,omitempty" doc:"what was asked of the platform and answered, in order"`
}

// DigestChain is the comparisons of digests of an upload.
type DigestChain struct {
	Upload string       `json:"upload"`
	Links  []DigestLink `json:"links"`
}

// DigestLink is a comparison that took place, or the note that none did.
type DigestLink struct {
	Epoch        int       `json:"epoch" doc:"the upstream session in which the bytes travelled; 0 before the first"`
	Part         int       `json:"part" doc:"0 for the whole object"`
	Stage        string    `json:"stage" enum:"staging,transit,platform" doc:"staging: what was read; transit: what the platform received of a part; platform: what it made of the parts"`
	Kind         string    `json:"kind,omitempty" doc:"of the digests, such as crc64nvme"`
	Expected     string    `json:"expected,omitempty"`
	ExpectedFrom string    `json:"expected_from,omitempty" doc:"bucket, submitter, digest pass, worker or parts"`
	Got          string    `json:"got,omitempty"`
	GotFrom      string    `json:"got_from,omitempty" doc:"worker, digest pass, parts or platform"`
	Compared     bool      `json:"compared" doc:"if not, note says why"`
	Matched      bool      `json:"matched" doc:"of no meaning where nothing was compared"`
	Note         string    `json:"note,omitempty"`
	At           time.Time `json:"at"`
}

// Evidence is one call to the platform about the end of an upload.
type Evidence struct {
	At     time.Time `json:"at" doc:"when the call began"`
	Call   string    `json:"call" doc:"finish or probe"`
	Answer string    `json:"answer"`
}

// UploadList is a page of uploads, newest first.
type UploadList struct {
	Uploads []Upload `json:"uploads"`
	Next    string   `json:"next,omitempty" doc:"give it as after to have the next page; empty on the last"`
}

// WorkerList is the workers whose heartbeats arrive.
type WorkerList struct {
	Workers []Worker `json:"workers"`
}

// Worker is what a worker's last heartbeat said.
type Worker struct {
	ID         string    `json:"id"`
	Pool       string    `json:"pool"`
	Slots      int       `json:"slots" doc:"jobs that it takes at once"`
	Busy       int       `json:"busy" doc:"of slots"`
	BytesMoved int64     `json:"bytes_moved" doc:"since it started"`
	Version    string    `json:"version,omitempty" doc:"of its program"`
	SeenAt     time.Time `json:"seen_at"`
}

// AccountList is the tenant's accounts.
type AccountList struct {
	Accounts []Account `json:"accounts"`
}

// Account is an account as it stands.
type Account struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
	Pool     string `json:"pool"`
	Window   int64  `json:"window" doc:"bytes that may be in flight at present"`
	InFlight int64  `json:"in_flight" doc:"bytes handed to workers and not yet acknowledged"`
	Active   int    `json:"active" doc:"uploads on which work is still due"`

	MaxWindow int64      `json:"max_window" doc:"bytes; the window as configured, which it never exceeds"`
	Goodput   int64      `json:"goodput" doc:"bytes acknowledged in a second, smoothed; 0 when idle"`
	CutAt     time.Time  `json:"cut_at,omitzero" doc:"when the window was last cut"`
	CutFor    string     `json:"cut_for,omitempty" doc:"why it was"`
	Held      []HeldCall `json:"held,omitempty" doc:"calls that wait, since the platform is down or asked for a pause"`
	Rates     []CallRate `json:"rates,omitempty" doc:"what is spent of the platform's published rates"`

	Paused bool    `json:"paused" doc:"nothing is sent until it and its tenant are resumed"`
	Pauses []Pause `json:"pauses,omitempty" doc:"what holds it"`
}

// HeldCall is a kind of call that waits.
type HeldCall struct {
	Call      string    `json:"call"`
	Until     time.Time `json:"until" doc:"when the next call may be made, or when the one under way is given up"`
	Why       string    `json:"why,omitempty" doc:"what the platform said last"`
	DownSince time.Time `json:"down_since,omitzero" doc:"since when no such call was answered; missing if the platform asked for a pause only"`
	Asked     int       `json:"asked,omitempty" doc:"calls made since, to see whether it is back"`
}

// CallRate is what is spent of a published rate.
type CallRate struct {
	Call          string  `json:"call"`
	Count         int     `json:"count" doc:"calls in each period"`
	PeriodSeconds float64 `json:"period_seconds"`
	Spent         float64 `json:"spent" doc:"calls made and not yet forgotten; a tenth of count may be made at once"`
}

// Tenant is a tenant as it stands.
type Tenant struct {
	Name     string   `json:"name"`
	Accounts []string `json:"accounts"`
	Paused   bool     `json:"paused" doc:"nothing is sent to any of its accounts"`
	Pause    *Pause   `json:"pause,omitempty"`
}

// StreamReply answers a submission that came by NATS: one of the two is set.
type StreamReply struct {
	Upload *Upload  `json:"upload,omitempty"`
	Errors []string `json:"errors,omitempty"` // "field: what is wrong and what to do"
}

// TokenRequest asks for a token. Exactly one of Tenant and AllTenants is given.
type TokenRequest struct {
	Name       string    `json:"name" doc:"whose it is, to be recognised by"`
	Tenant     string    `json:"tenant,omitempty" doc:"the one tenant that it is good for"`
	AllTenants bool      `json:"all_tenants,omitempty" doc:"good for every tenant: for operators"`
	Scopes     []string  `json:"scopes" enum:"submit,read,operate,admin" doc:"what it allows; admin includes the others"`
	ExpiresAt  time.Time `json:"expires_at,omitzero" doc:"never, if left out"`
}

// Token is what is known of a token.
type Token struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Prefix     string    `json:"prefix" doc:"how the token begins"`
	Tenant     string    `json:"tenant,omitempty" doc:"empty for every tenant"`
	Scopes     []string  `json:"scopes"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero" doc:"to ten minutes"`
}

// NewToken is a token that was just made.
type NewToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret" doc:"the token itself; it is told here and never again"`
}

// TokenList is the tokens that the caller may see.
type TokenList struct {
	Tokens []Token `json:"tokens"`
}
