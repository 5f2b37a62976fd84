package parts

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// maxWorkerName bounds what a report says of its sender, in bytes.
const maxWorkerName = 256

// Check says what is wrong with a report that came in: numbers that the record
// has no room for, and text that it cannot keep. Whether its parts are those of
// the upload is for the ledger to say.
func (r Report) Check() error {
	if r.Epoch < 0 || r.Epoch > math.MaxInt32 {
		return fmt.Errorf("epoch is %d", r.Epoch)
	}
	if r.Delivery < 0 || r.Delivery > math.MaxInt32 {
		return fmt.Errorf("delivery is %d", r.Delivery)
	}
	if len(r.Worker) > maxWorkerName || !storable(r.Worker) {
		return fmt.Errorf("worker has %d bytes, or is not UTF-8 without NUL", len(r.Worker))
	}
	for _, a := range r.Acks {
		if a.Part < 1 || a.Part > math.MaxInt32 || a.Offset < 0 || a.Length < 1 {
			return fmt.Errorf("ack of part %d has offset %d and length %d", a.Part, a.Offset, a.Length)
		}
		if !plausible(a.Started) || !plausible(a.Finished) {
			return fmt.Errorf("ack of part %d is of %s to %s", a.Part, a.Started, a.Finished)
		}
	}
	if f := r.Failure; f != nil {
		if f.Part < 0 || f.Part > math.MaxInt32 || f.RetryAfter < 0 {
			return fmt.Errorf("failure of part %d is to be tried again after %s", f.Part, f.RetryAfter)
		}
		if !plausible(f.Started) || !plausible(f.Failed) {
			return fmt.Errorf("failure of part %d is of %s to %s", f.Part, f.Started, f.Failed)
		}
	}
	if d := r.Digested; d != nil {
		o := d.Object
		for _, text := range []string{o.Bucket, o.Key, o.Version, o.ETag} {
			if !storable(text) {
				return fmt.Errorf("the object that was read has a name that is not UTF-8 without NUL")
			}
		}
	}
	return nil
}

// storable reports whether a text column keeps the text as it is.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// plausible reports whether the record has room for the time.
func plausible(at time.Time) bool { return at.Year() >= 0 && at.Year() < 10_000 }
