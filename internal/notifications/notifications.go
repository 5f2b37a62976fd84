// Package notifications makes uploads of what a bucket's store tells of new
// objects: S3 event messages, as MinIO, versitygw and others publish them, and
// rules that say which object goes to which accounts.
//
// A message may come any number of times and in any order: each submission has
// an idempotency key made of what the event says of the object and of the
// account, so an event is one upload for each account that the rules name.
package notifications

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

// Rule says where the objects of a bucket go whose keys begin and end with
// Prefix and Suffix.
type Rule struct {
	Bucket, Prefix, Suffix string
	Targets                []Target
	Options, Labels        map[string]string
	Priority               int
}

// Target is an account and whose it is.
type Target struct{ Tenant, Account string }

func (r Rule) matches(bucket, key string) bool {
	return r.Bucket == bucket && len(key) >= len(r.Prefix)+len(r.Suffix) &&
		strings.HasPrefix(key, r.Prefix) && strings.HasSuffix(key, r.Suffix)
}

// Outcome is what became of an event of one object for one account, or of an
// event that is for none.
type Outcome string

// The outcomes.
const (
	Submitted  Outcome = "submitted"  // an upload of it is new
	Known      Outcome = "known"      // it came before
	NoRule     Outcome = "no_rule"    // no rule is about the object
	Ignored    Outcome = "ignored"    // not about an object that was made
	Superseded Outcome = "superseded" // the object is another one by now, of which there is an event too
	Refused    Outcome = "refused"    // the submission is wrong, or the message unreadable
)

// Outcomes lists them.
func Outcomes() []Outcome {
	return []Outcome{Submitted, Known, NoRule, Ignored, Superseded, Refused}
}

// submitter is intake; dispatch.Dispatcher meets it.
type submitter interface {
	Submit(ctx context.Context, s uploads.Submission) (u uploads.Upload, created bool, err error)
}

// Notifications takes event messages.
type Notifications struct {
	rules  []Rule
	intake submitter
	count  func(Outcome)
	log    *zap.Logger
}

// New makes a Notifications; count is called by many goroutines at once.
func New(rules []Rule, intake submitter, count func(Outcome), log *zap.Logger) *Notifications {
	return &Notifications{rules: rules, intake: intake, count: count, log: log.Named("notifications")}
}

// Take submits what a message tells of. When it returns nil, every upload that
// comes of it is durable. An *uploads.RefusedError says what is wrong with the
// message, or with some of its objects; the others are submitted. Any other error
// means that the message is to come again. It may be repeated in any case.
func (n *Notifications) Take(ctx context.Context, payload []byte) error {
	events, err := read(payload)
	if err != nil {
		n.count(Refused)
		return &uploads.RefusedError{Reason: err.Error()}
	}
	if len(events) == 0 {
		n.count(Ignored)
	}
	var refusals []string
	for _, e := range events {
		if !e.made {
			n.count(Ignored)
			continue
		}
		refused, err := n.take(ctx, e)
		if err != nil {
			return err
		}
		refusals = append(refusals, refused...)
	}
	if len(refusals) > 0 {
		return &uploads.RefusedError{Reason: strings.Join(refusals, "; ")}
	}
	return nil
}

// take submits one object to the accounts that the rules name.
func (n *Notifications) take(ctx context.Context, e event) (refusals []string, err error) {
	sent := map[Target]bool{}
	for _, r := range n.rules {
		if !r.matches(e.bucket, e.key) {
			continue
		}
		for _, t := range r.Targets {
			if sent[t] {
				continue
			}
			sent[t] = true
			outcome, why, err := n.submit(ctx, e, r, t)
			if err != nil {
				return nil, err
			}
			n.count(outcome)
			if why != "" {
				refusals = append(refusals, fmt.Sprintf("s3://%s/%s for account %s: %s", e.bucket, e.key, t.Account, why))
			}
		}
	}
	if len(sent) == 0 {
		n.count(NoRule)
	}
	return refusals, nil
}

func (n *Notifications) submit(ctx context.Context, e event, r Rule, t Target) (outcome Outcome, why string, err error) {
	u, created, err := n.intake.Submit(ctx, uploads.Submission{
		Tenant: t.Tenant, Account: t.Account, IdempotencyKey: e.idempotencyKey(t.Account),
		Source:  uploads.Object{Bucket: e.bucket, Key: e.key, ETag: e.etag},
		Options: r.Options, Labels: r.Labels, Priority: r.Priority,
	})
	log := n.log.With(zap.String("bucket", e.bucket), zap.String("key", e.key), zap.String("account", t.Account))
	_, away := errors.AsType[*uploads.UnavailableError](err)
	refused, isRefused := errors.AsType[*uploads.RefusedError](err)
	fields := uploads.FieldErrors(err)
	switch {
	case err == nil && created:
		log.Info("submission by notification", zap.Stringer("upload", u.ID))
		return Submitted, "", nil
	case err == nil, errors.Is(err, uploads.ErrKeyTaken):
		// The rule may say something else by now; what it said first holds.
		return Known, "", nil
	case away:
		return "", "", err
	case len(fields) == 1 && fields[0].Field == "source.etag":
		// What is there now has an event of its own.
		log.Info("notification is of an object that was replaced since")
		return Superseded, "", nil
	case len(fields) > 0:
		texts := make([]string, len(fields))
		for i, f := range fields {
			texts[i] = f.Error()
		}
		return Refused, strings.Join(texts, "; "), nil
	case isRefused:
		return Refused, refused.Reason, nil
	}
	return "", "", err
}

// event is one record of a message.
type event struct {
	made        bool // an object was made, whole
	bucket, key string
	etag        string // "" where the store does not say
	version     string
	order, at   string // of the store, which tell one event from another
}

// idempotencyKey is the idempotency key of the event for an account.
func (e event) idempotencyKey(account string) string {
	h := sha256.New()
	for _, part := range []string{account, e.bucket, e.key, e.version, e.etag, e.order, e.at} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "notification-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// message is an S3 event message, of what is used here.
type message struct {
	Event   string   `json:"Event"` // of a test message
	Records []record `json:"Records"`
}

type record struct {
	EventName string `json:"eventName"`
	EventTime string `json:"eventTime"`
	S3        struct {
		ConfigurationID string `json:"configurationId"`
		Bucket          struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			ETag      string `json:"eTag"`
			VersionID string `json:"versionId"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"s3"`
}

// read reads a message; none of its events is of no interest but as a sign of life.
func read(payload []byte) ([]event, error) {
	var m message
	dec := json.NewDecoder(bytes.NewReader(payload))
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("message: is not an S3 event message: %w; have the store publish its events as JSON", err)
	}
	if dec.More() {
		return nil, errors.New("message: has something after the S3 event message; publish one in each message")
	}
	if len(m.Records) == 0 && m.Event == "" {
		return nil, errors.New("message: has no Records, so it is not an S3 event message; have the store publish its events in the format of S3")
	}
	var events []event
	for i, r := range m.Records {
		e := event{made: makes(r.EventName)}
		if e.made {
			var err error
			if e.key, err = decode(r); err != nil {
				return nil, fmt.Errorf("Records[%d].s3.object.key: %w", i, err)
			}
			e.bucket = r.S3.Bucket.Name
			e.etag = strings.Trim(r.S3.Object.ETag, `"`)
			// versitygw counts from 1 whenever it starts, so the time is needed too.
			e.order, e.at = r.S3.Object.Sequencer, r.EventTime
			if v := r.S3.Object.VersionID; v != "null" {
				e.version = v
			}
			if e.bucket == "" || e.key == "" {
				return nil, fmt.Errorf("Records[%d].s3: has no bucket name or no object key", i)
			}
		}
		events = append(events, e)
	}
	return events, nil
}

// makes reports whether an event of the name is of a whole object that is new.
// Tags, access lists and the like are no new object.
func makes(name string) bool {
	name = strings.TrimPrefix(name, "s3:")
	for _, kind := range []string{"Put", "Post", "Copy", "CompleteMultipartUpload"} {
		if name == "ObjectCreated:"+kind {
			return true
		}
	}
	return name == "ObjectCreated:*"
}

// decode returns the key as the bucket has it. S3 and MinIO encode it as in a
// form, with + for a space; versitygw, which is known by its configuration's
// name, does not.
func decode(r record) (string, error) {
	if strings.HasSuffix(r.S3.ConfigurationID, "-global") {
		return r.S3.Object.Key, nil
	}
	key, err := url.QueryUnescape(r.S3.Object.Key)
	if err != nil {
		return "", errors.New("is not encoded as in a URL")
	}
	return key, nil
}
