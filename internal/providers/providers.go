// Package providers is the contract between mediaferry and a video platform:
// six methods, the limits as data, and the kinds of error that the rest of the
// system decides by. A package below this one speaks one platform's protocol;
// what its codes and quirks mean stays there.
package providers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Provider speaks one platform's protocol. It is safe for use by many
// goroutines, holds no state of an upload, and does not retry: callers do.
// Every error is an *Error. Every method honours its context and leaves no
// goroutine behind.
type Provider interface {
	// Limits returns the documented bounds; they never change at run time.
	Limits() Limits

	// Begin opens an upstream session, resumes one that the platform still holds,
	// or learns that the media is there already. It may be repeated after any
	// error; a platform that opens a session for each call then keeps an empty one
	// until it lapses.
	Begin(ctx context.Context, account Account, media Media) (Begun, error)

	// PutPart sends one part. When it returns without error, the platform holds
	// the part durably and has confirmed its bytes as Limits.PartDigest says.
	// Calls may be repeated, and made in any order and by several workers at once.
	PutPart(ctx context.Context, session Session, part parts.Part, body Body) (parts.Receipt, error)

	// Finish assembles the parts into the asset. After an error of kind
	// UnknownOutcome, or a crash, it must not be called again before Probe has
	// answered.
	Finish(ctx context.Context, session Session, stored []parts.Stored) (uploads.Asset, error)

	// Probe asks what the platform holds of the upload. It changes nothing that
	// matters and may be repeated.
	Probe(ctx context.Context, account Account, media Media, session Session) (Outcome, error)

	// Abort discards the upstream session and what it holds; it never touches a
	// finished asset. It may be repeated, and a session that is gone is no error.
	Abort(ctx context.Context, session Session) error
}

// AccountChecker is a Provider that can say what is wrong with an account's
// settings without a call. Problems are joined *uploads.FieldError, each
// field relative to the account, such as "settings.endpoint".
type AccountChecker interface {
	CheckAccount(account Account) error
}

// MediaChecker is a Provider with rules for names or options of its own.
// Problems are joined *uploads.FieldError, such as "name" or "options.class_id".
type MediaChecker interface {
	CheckMedia(media Media) error
}

// Renewer is a Provider whose sessions lapse and can be prolonged. Renew returns
// the session to use from now on. The old one works until it lapses, so parts in
// hand are not disturbed. Renew may be repeated.
type Renewer interface {
	Renew(ctx context.Context, account Account, media Media, session Session) (Session, error)
}

// Locator is a Provider that can say what a person should look for at the
// platform to learn what became of a session: an id, a key, a path. Locate makes
// no call, and what it returns is not secret.
type Locator interface {
	Locate(session Session) string
}

// DigestChooser is a Provider that does not always need Limits.ObjectDigests.
// NeededDigests returns which of them must be known before Begin for this account
// and media; if there are none, no digest pass is made.
type DigestChooser interface {
	NeededDigests(account Account, media Media) []hashing.Kind
}

// CredentialChecker is a Provider whose platform has a call that shows whether it
// accepts an account's credentials, without side effects. CheckCredentials makes
// the call once and returns what was asked and answered, for a person and without
// secrets. An error of kind Unauthorized means that the credentials are refused;
// any other, that it could not be found out. The call counts against CallProbe's
// rate.
type CredentialChecker interface {
	CheckCredentials(ctx context.Context, account Account) (evidence string, err error)
}

// ErrNoCheck says that a platform has no such call.
var ErrNoCheck = errors.New("not possible without beginning an upload")

// Account is credentials and settings at a platform.
type Account struct {
	Name     string
	Settings map[string]string // not secret: endpoint, bucket, …
	Secrets  map[string]Secret // access keys and the like
}

// Secret is text that must not be seen: it prints as "[redacted]" under every
// verb, and in JSON and YAML. Only Reveal returns its value. Do not print a struct
// that has one in an unexported field: fmt calls no methods there.
type Secret string

// Reveal returns the value, for use in a signature or a request only.
func (s Secret) Reveal() string { return string(s) }

// String hides the value.
func (Secret) String() string { return "[redacted]" }

// Format hides the value from every verb, even those that are not for text.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// GoString hides the value from %#v.
func (Secret) GoString() string { return "[redacted]" }

// MarshalText hides the value from JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Media is what a provider is told about an upload.
type Media struct {
	Upload      uploads.ID
	Epoch       int // of the session to be opened or asked about, from 1
	Name        string
	ContentType string
	Size        int64 // bytes
	PartSize    int64 // bytes; what the plan proposes
	Digests     []hashing.Digest
	Options     map[string]string
	// Attachments are those of Limits.Attachments that the submission names, by option.
	Attachments map[string]Attachment
}

// Attachment is a second, small staging object that goes with the media, such
// as a cover image. Begin sends it.
type Attachment struct {
	Name string // file name
	Size int64  // bytes
	// Open reads the object from its start, pinned to its version. It may be
	// called again.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Digest returns the media's whole-object digest of the kind, zero if unknown.
func (m Media) Digest(kind hashing.Kind) hashing.Digest {
	for _, d := range m.Digests {
		if d.Kind == kind {
			return d
		}
	}
	return hashing.Digest{}
}

// Session is what PutPart, Finish and Abort need: the upstream session and
// whatever authorises the calls. Data is in the provider's own encoding, and is
// secret: it is sealed wherever it rests or travels.
type Session struct {
	Data    []byte    `json:"data"`
	Expires time.Time `json:"expires,omitzero"` // zero if it does not lapse
}

// Begun is the answer to Begin: either Asset is set (instant upload), or Session is.
type Begun struct {
	Session Session
	// PartSize is the size that the platform insists on for this session, in
	// bytes; 0 accepts Media.PartSize.
	PartSize int64
	// Found are the parts that the platform holds already, in the session's part size.
	Found []parts.Stored
	// Asset is the finished media if the platform has these very bytes already.
	Asset *uploads.Asset
}

// Body is the bytes of one part, read once from start to end.
type Body interface {
	io.Reader
	// Len is the number of bytes that Read will deliver in all.
	Len() int64
	// Bytes is the whole part if it is held in memory (Limits.DigestFirst and
	// HoldUpTo), nil if it streams. It must not be kept after PutPart returns.
	Bytes() []byte
	// Digest is the part's digest of kind Limits.PartDigest. For a part in memory it
	// is known from the start; for one that streams it is zero until Read has
	// returned io.EOF.
	Digest() hashing.Digest
}

// Holding says what the platform holds of an upload.
type Holding string

// The answers of Probe.
const (
	HoldsAsset   Holding = "asset"   // finished; Outcome.Asset is set
	HoldsSession Holding = "session" // still open; finish may be called (again)
	HoldsNothing Holding = "nothing" // neither: a new session is needed
	HoldsUnknown Holding = "unknown" // the platform cannot tell
)

// Outcome is the answer of Probe.
type Outcome struct {
	Holding  Holding
	Asset    uploads.Asset
	Found    []parts.Stored // with HoldsSession, where the platform lists parts
	Listed   bool           // with HoldsSession: Found is all that the platform holds
	Evidence string         // what was asked and answered, for a person; without secrets
}

// Limits are a platform's documented bounds, as data.
type Limits struct {
	parts.Limits

	// PartDigest is the digest of each part that the platform checks; where it
	// leaves the choice to us, the one we chose. DigestFirst means that it travels
	// before the bytes, so a part is held in memory while it is hashed.
	PartDigest  hashing.Kind
	DigestFirst bool
	// HoldUpTo is the largest part, in bytes and at most 4 MiB, that is held in
	// memory even without DigestFirst. For a small part, sending the digest first
	// costs less than the framing that allows it to follow.
	HoldUpTo int64

	// ObjectDigests must be known before Begin; a digest pass computes them. A
	// DigestChooser needs them for some uploads only.
	ObjectDigests []hashing.Kind

	// KnownBy is the digest by which the platform identifies an account's media,
	// so that uploads of the same bytes are one upload there. It is one of
	// ObjectDigests, or "" if each upload is separate. Uploads with the same digest
	// are made one after the other.
	KnownBy hashing.Kind

	// UniqueNames means that the name is the asset's address, so a second upload of
	// the same name replaces the first.
	UniqueNames bool

	// Attachments are the options whose value is the key of another object in
	// the media's bucket, sent along with it; MaxAttachment bounds each, in bytes.
	Attachments   []string
	MaxAttachment int64

	// SessionLife is how long an upstream session lasts, 0 if unbounded or unknown.
	SessionLife time.Duration

	// Calls are published rates, by call.
	Calls map[Call]Rate
}

// Call names a method of the contract that a rate may bound.
type Call string

// The calls.
const (
	CallBegin  Call = "begin"
	CallPut    Call = "put_part"
	CallFinish Call = "finish"
	CallProbe  Call = "probe"
	CallAbort  Call = "abort"
)

// Rate is a bound on calls: Count in each Per.
type Rate struct {
	Count int
	Per   time.Duration
}

// Spend divides a published rate: burst calls at once, a tenth of a period's, and
// perSecond calls in each second, the rest spread over the period. So no period
// has more calls than the rate, wherever the platform counts it from.
func (r Rate) Spend() (perSecond, burst float64) {
	return 0.9 * float64(r.Count) / r.Per.Seconds(), max(1, float64(r.Count)/10)
}
