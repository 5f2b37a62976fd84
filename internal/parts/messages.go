package parts

import (
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

// Job is a message on the JOBS stream: identifiers only. Everything else is
// asked of the dispatcher, sealed.
type Job struct {
	Upload  uploads.ID `json:"upload"`
	Account string     `json:"account"`
	Pool    string     `json:"pool"`
	// Epoch and Run are zero for a digest job, which is about the whole object.
	Epoch int `json:"epoch,omitempty"`
	Run   Run `json:"run,omitzero"`
	// Trace is the W3C traceparent of the span that put it on the queue, "" if
	// there is none. It travels as a header.
	Trace string `json:"-"`
}

// IsDigest reports whether the job is a digest job, not a part job.
func (j Job) IsDigest() bool { return j.Run.Count == 0 }

// Ack is the worker's message that one part is stored upstream. Acks of one
// run travel together in a Report.
type Ack struct {
	Part     int            `json:"part"`
	Offset   int64          `json:"offset"`
	Length   int64          `json:"length"`
	Receipt  Receipt        `json:"receipt,omitzero"`
	Digest   hashing.Digest `json:"digest,omitzero"`
	Read     hashing.Digest `json:"read,omitzero"` // see Stored.Read
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished"`
}

// Failure is one try that failed and that the worker hands back. Kind is a
// providers.Kind or one of the Source… kinds.
type Failure struct {
	Part    int    `json:"part,omitempty"` // 0 for a digest job
	Kind    string `json:"kind"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"` // no secret
	// Stage is where digests did not agree, "" if it was not about digests.
	Stage uploads.DigestStage `json:"stage,omitempty"`
	// Against is who gave the digest that the bytes read from staging differ from.
	Against    string        `json:"against,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// SessionNumber tells the session that the try was made with from those that
	// the upload had before and after; 0 is not known.
	SessionNumber int       `json:"session_number,omitempty"`
	Started       time.Time `json:"started"`
	Failed        time.Time `json:"failed"`
}

// Kinds of a Failure that are about staging, beside those of providers.Kind.
const (
	SourceMissing   = "source_missing"
	SourceChanged   = "source_changed"
	SourceDenied    = "source_denied"
	SourceTransient = "source_transient"
)

// Codes of a Failure that are the worker's own words.
const (
	CodeUnfit   = "unfit_job" // the worker could not begin: it says nothing of the platform
	CodeStalled = "stalled"   // no byte moved for a while, and no answer came
)

// Digested is progress of a digest job: Sums when it is done, else a checkpoint.
type Digested struct {
	Checkpoint *hashing.Checkpoint `json:"checkpoint,omitempty"`
	Sums       []hashing.Digest    `json:"sums,omitempty"`
	Object     uploads.Object      `json:"object"` // whose bytes were read
}

// Report is a message on the ACKS stream. It may be published and read any
// number of times; the ledger's key makes that harmless.
type Report struct {
	Upload   uploads.ID `json:"upload"`
	Account  string     `json:"account"`
	Epoch    int        `json:"epoch,omitempty"`
	Worker   string     `json:"worker"`
	Delivery int        `json:"delivery"` // 1 for the first
	Acks     []Ack      `json:"acks,omitempty"`
	Failure  *Failure   `json:"failure,omitempty"`
	// Mended are tries whose digests did not agree and after which the part is
	// sent once more: kept for the record, and nothing is decided by them.
	Mended   []Failure `json:"mended,omitempty"`
	Digested *Digested `json:"digested,omitempty"`
	// Trace is as in Job, of the span that reports.
	Trace string `json:"-"`
}

// Assignment is what a worker is told of an upload: how to read it and where to
// send it. It is sealed to the worker's one-time key on its way.
type Assignment struct {
	Provider      string         `json:"provider"`
	Source        uploads.Object `json:"source"`
	Plan          Plan           `json:"plan"`
	Session       []byte         `json:"session,omitempty"`        // providers.Session, encoded
	SessionNumber int            `json:"session_number,omitempty"` // as in Failure
	// Reach is where the platform may send the worker; nil, from a dispatcher that
	// knows no bounds yet, is everywhere.
	Reach *reach.Reach `json:"reach,omitempty"`
	// Acked are parts of the run that the ledger has, asked for on redelivery.
	Acked []int `json:"acked,omitempty"`
	// Known is the digest by which the bytes read are compared with the object's,
	// zero if there is none. Parts are hashed under its kind too; an upload of one
	// part is compared before its last byte is sent.
	Known     hashing.Digest `json:"known,omitzero"`
	KnownFrom string         `json:"known_from,omitempty"`
	// At is when this was said, by the dispatcher's clock, which tells a worker how
	// far its own is off; zero from a dispatcher that does not say.
	At time.Time `json:"at,omitzero"`
	// Kinds and Checkpoint are for a digest job.
	Kinds      []hashing.Kind      `json:"kinds,omitempty"`
	Checkpoint *hashing.Checkpoint `json:"checkpoint,omitempty"`
}

// Verdict says how a delivery is settled.
type Verdict int

// The verdicts. The runner settles from them in one switch.
const (
	Done    Verdict = iota // acked: reported, or nothing is left to do
	Retry                  // delivered again after Settlement.Delay
	Release                // delivered again at once; no attempt is counted (a stop)
)

// Settlement is what the handling of a job comes to.
type Settlement struct {
	Verdict Verdict
	Delay   time.Duration // with Retry
}
