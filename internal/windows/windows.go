// Package windows says how much may be in flight to an account's platform, and
// when a call to it is to wait. It is pure: the record keeps a Window for each
// account and a Hold for each of its calls, and every dispatcher works on both
// under the row's lock, with the time of the database.
//
// A Window goes the way of TCP's: it grows by a run while that brings more
// goodput, is halved when the platform throttles or times out, at most once a
// second whatever the number of parts that failed together, and after an outage
// starts from one run, doubling up to half of what it was. It begins at the
// account's configured maximum, since the operator has said what the path
// takes; a healthy account never has to find it out.
//
// A Hold tells a platform that is down from an upload that is broken: failures
// in a row, with no answer to the same call of any upload between them. While
// the platform is down, one call at a time asks whether it is back.
package windows

import "time"

// Limits are what a Window keeps within, in bytes.
type Limits struct {
	Least int64 // one run: below it nothing would move
	Most  int64 // the account's configured maximum
}

// Window is how many bytes may be in flight for an account.
type Window struct {
	Bytes     int64
	Threshold int64     // bytes up to which the window doubles, and above which it grows by a run
	Goodput   float64   // bytes acknowledged in a second, smoothed; 0 if not known
	Mark      float64   // the goodput when the window last grew
	GrownAt   time.Time // zero if it never grew
	CutAt     time.Time // zero if it was never cut
	CutFor    string    // why it was last cut; no secret

	// The sample under way: bytes acknowledged since.
	Acked int64
	Since time.Time
}

// Tuning of the window.
const (
	// sampleTime is what a sample of goodput spans at least, and so the least
	// time between two growths; a sample that spans staleTime is of a pause.
	sampleTime = time.Second
	staleTime  = 5 * time.Second
	// cutRest is the least time between two cuts: what fails within it was sent
	// before the first one.
	cutRest = time.Second
	// smoothing is the weight of a new sample.
	smoothing = 0.4
	// gain is how much more goodput than at the last growth counts as more.
	gain = 1.02
	// growAgain is after how long a window whose growth brought nothing tries again.
	growAgain = 10 * time.Second
)

// Within returns the window brought within limits that may have been configured
// anew. The zero Window, of an account of which nothing is known, begins at Most.
func (w Window) Within(l Limits) Window {
	if w.Bytes == 0 {
		w.Bytes, w.Threshold = l.Most, l.Most
	}
	least := min(l.Least, l.Most)
	w.Bytes = min(max(w.Bytes, least), l.Most)
	w.Threshold = min(max(w.Threshold, least), l.Most)
	return w
}

// Observed is what happened since the last look.
type Observed struct {
	At    time.Time
	Acked int64 // bytes newly acknowledged
	Full  bool  // work waited for the window
	// Congested says why the window is to be cut: throttling or a timeout; "" if
	// there was none. Down says that the platform does not answer at all.
	Congested string
	Down      bool
}

// After returns the window after what was observed.
func (w Window) After(o Observed, l Limits) Window {
	w = w.Within(l)
	sampled := w.sample(o)
	switch {
	case o.Down:
		if w.Bytes > min(l.Least, l.Most) {
			w.Threshold = max(w.Bytes/2, w.Threshold/2, l.Least)
			w.Bytes = l.Least
		}
		w.CutAt, w.CutFor, w.Mark = o.At, o.Congested, 0
	case o.Congested != "":
		if o.At.Sub(w.CutAt) >= cutRest {
			w.Bytes /= 2
			w.Threshold = w.Bytes
			w.CutAt, w.CutFor, w.Mark = o.At, o.Congested, 0
		}
	case o.Full && sampled && o.At.Sub(w.CutAt) >= cutRest:
		w.grow(o.At, l)
	}
	return w.Within(l)
}

// sample takes what was acknowledged into the goodput, and reports whether a
// sample was completed.
func (w *Window) sample(o Observed) bool {
	span := o.At.Sub(w.Since)
	if w.Since.IsZero() || span < 0 || span >= staleTime {
		// Nobody looked for a while, and so nothing was under way.
		w.Since, w.Acked = o.At, 0
		return false
	}
	w.Acked += o.Acked
	if span < sampleTime {
		return false
	}
	rate := float64(w.Acked) / span.Seconds()
	if w.Goodput > 0 {
		rate = smoothing*rate + (1-smoothing)*w.Goodput
	}
	w.Goodput, w.Since, w.Acked = rate, o.At, 0
	return true
}

// grow widens a window that was full: what is below the threshold was fine
// before an outage, and above it each step must have brought something.
func (w *Window) grow(at time.Time, l Limits) {
	step := l.Least
	if w.Bytes < w.Threshold {
		step = min(w.Bytes, w.Threshold-w.Bytes)
	} else if w.Goodput < w.Mark*gain && at.Sub(w.GrownAt) < growAgain {
		return
	}
	if w.Bytes >= l.Most {
		return
	}
	w.Bytes += step
	w.Mark, w.GrownAt = w.Goodput, at
}

// GoodputAt returns the goodput as it stands at a time: 0 after a pause.
func (w Window) GoodputAt(at time.Time) float64 {
	if at.Sub(w.Since) >= 2*staleTime {
		return 0
	}
	return w.Goodput
}
