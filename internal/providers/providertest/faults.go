package providertest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

// Upstream is the platform as the suite disturbs it: its local server.
type Upstream interface {
	AddFaults(faults ...upstreams.Fault)
	// Calls are those so far, oldest first; of one that a fault was for, the
	// outcome begins with "fault".
	Calls() []upstreams.Call
}

// Call is a call of the platform, by the name that its local server has for it.
type Call struct {
	By     providers.Call // the method of the contract that makes it
	Action string
	Single bool // made only for media of one part
}

// Refusal is an error that the platform documents and what it comes to.
type Refusal struct {
	Actions []string        // which calls are answered with it
	Fault   upstreams.Fault // the answer: a code, or a status where there is none
	Want    providers.Kind
}

// code is what the error must name as the platform's own code.
func (r Refusal) code() string {
	switch f := r.Fault; {
	case f.ErrorCode != "":
		return f.ErrorCode
	case f.Code != 0:
		return strconv.Itoa(f.Code)
	default:
		return strconv.Itoa(f.Status)
	}
}

// faulted counts the calls of the action that a fault was for.
func (s *subject) faulted(action string) (n int) {
	for _, c := range s.Upstream.Calls() {
		if c.Action == action && strings.HasPrefix(c.Outcome, "fault") {
			n++
		}
	}
	return n
}

// once puts a fault for the next call of the action into force, makes the call
// and fails unless the platform saw it.
func (s *subject) once(t *testing.T, fault upstreams.Fault, call func() error) error {
	t.Helper()
	before := s.faulted(fault.Action)
	fault.Times = 1
	s.Upstream.AddFaults(fault)
	err := call()
	if s.faulted(fault.Action) != before+1 {
		t.Fatalf("%s was not called, or more than once after it failed (%v)", fault.Action, err)
	}
	return err
}

// attempt is media on their way, and a try at each method for them.
type attempt struct {
	*subject

	media   providers.Media
	data    []byte
	session providers.Session
	stored  []parts.Stored
}

// attempt opens media of one part or two, of which the last has so many bytes,
// and sends none of them, the first of two, or all, as the method that is to be
// tried needs it.
func (s *subject) attempt(t *testing.T, by providers.Call, count, last int64) *attempt {
	t.Helper()
	a := &attempt{subject: s}
	a.media, a.data = s.media(t, (count-1)*s.partSize()+last)
	if by == providers.CallBegin {
		return a
	}
	a.session = s.open(t, a.media)
	a.stored = make([]parts.Stored, count)
	if by == providers.CallFinish || count > 1 {
		a.stored[0] = s.put(t, a.session, a.media, a.data, 1)
	}
	if by == providers.CallFinish && count > 1 {
		a.stored[1] = s.put(t, a.session, a.media, a.data, 2)
	}
	return a
}

// try calls the method once.
func (a *attempt) try(t *testing.T, by providers.Call) error {
	t.Helper()
	var err error
	switch by {
	case providers.CallBegin:
		_, err = a.Provider.Begin(t.Context(), a.Account, a.media)
	case providers.CallPut:
		part := planOf(a.media).Part(len(a.stored))
		_, err = a.Provider.PutPart(t.Context(), a.session, part, NewBody(a.limits, a.data[part.Offset:]))
	case providers.CallFinish:
		_, err = a.Provider.Finish(t.Context(), a.session, a.stored)
	case providers.CallProbe:
		_, err = a.Provider.Probe(t.Context(), a.Account, a.media, a.session)
	case providers.CallAbort:
		err = a.Provider.Abort(t.Context(), a.session)
	}
	return err
}

// complete brings the media to their end from wherever they stand, and checks
// the asset: whatever went wrong before left nothing behind.
func (a *attempt) complete(t *testing.T) {
	t.Helper()
	if a.stored == nil {
		a.session = a.open(t, a.media)
		a.stored = make([]parts.Stored, planOf(a.media).Count())
	}
	for i := range a.stored {
		if a.stored[i].Number == 0 {
			a.stored[i] = a.put(t, a.session, a.media, a.data, i+1)
		}
	}
	a.check(t, a.finish(t, a.session, a.stored), a.data)
}

// callsOf yields the platform's calls that the method makes, and how many parts
// the media have for which it makes them.
func (s *subject) callsOf(by providers.Call) func(yield func(action string, count int64) bool) {
	return func(yield func(string, int64) bool) {
		for _, c := range s.Calls {
			count := int64(2)
			if c.Single {
				count = 1
			}
			if c.By == by && !yield(c.Action, count) {
				return
			}
		}
	}
}

// testLost breaks the connection in place of each of the method's answers, when
// the call was carried out or before.
func testLost(by providers.Call, apply bool) func(t *testing.T, s *subject) {
	return func(t *testing.T, s *subject) {
		t.Helper()
		var tried bool
		for action, count := range s.callsOf(by) {
			tried = true
			a := s.attempt(t, by, count, s.partSize())
			err := s.once(t, upstreams.Fault{Action: action, Apply: apply, Reset: true}, func() error { return a.try(t, by) })
			switch {
			case by == providers.CallFinish:
				s.wantKind(t, err, providers.UnknownOutcome)
				a.settle(t, apply && action == s.last(by))
			case err != nil: // a transport may have repeated the call by itself, as it may be
				s.wantKind(t, err, providers.Transient)
				fallthrough
			default:
				if err := a.try(t, by); err != nil {
					t.Fatalf("%s again: %v", action, err)
				}
			}
			switch by {
			case providers.CallAbort:
				s.probe(t, a.session, a.media, providers.HoldsNothing)
			case providers.CallProbe:
				s.probe(t, a.session, a.media, providers.HoldsSession)
				a.complete(t)
			case providers.CallBegin, providers.CallPut:
				a.complete(t)
			case providers.CallFinish:
			}
		}
		if !tried {
			t.Errorf("the harness names no call that %s makes", by)
		}
	}
}

// last returns the platform's call that completes the method.
func (s *subject) last(by providers.Call) (last string) {
	for action := range s.callsOf(by) {
		last = action
	}
	return last
}

// settle does what is right after an unknown outcome of Finish: ask, and finish
// again only if the session is still there. made is whether the asset is: then
// no other answer will do, since to finish again could make another.
func (a *attempt) settle(t *testing.T, made bool) {
	t.Helper()
	out, err := a.Provider.Probe(t.Context(), a.Account, a.media, a.session)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if made && out.Holding != providers.HoldsAsset {
		t.Errorf("the asset was made and probe says %s (%s), want %s", out.Holding, out.Evidence, providers.HoldsAsset)
	}
	switch out.Holding {
	case providers.HoldsAsset:
		a.check(t, out.Asset, a.data)
	case providers.HoldsSession:
		a.complete(t)
	case providers.HoldsNothing, providers.HoldsUnknown:
		t.Errorf("probe says %s (%s), want %s or %s", out.Holding, out.Evidence, providers.HoldsAsset, providers.HoldsSession)
	}
	a.probe(t, a.session, a.media, providers.HoldsAsset)
}

// testThrottled has each call refused for its rate, with a time to wait.
func testThrottled(t *testing.T, s *subject) {
	t.Helper()
	const wait = 7 * time.Second
	for _, c := range s.Calls {
		count := int64(2)
		if c.Single {
			count = 1
		}
		statuses := []int{429, 503}
		if c.By == providers.CallFinish {
			statuses = statuses[:1] // after a 503 it may go on behind a gateway
		}
		a := s.attempt(t, c.By, count, s.partSize())
		for _, status := range statuses {
			err := s.once(t, upstreams.Fault{Action: c.Action, Status: status, RetryAfter: int(wait / time.Second)}, func() error { return a.try(t, c.By) })
			e, ok := errors.AsType[*providers.Error](err)
			if !ok || e.Kind != providers.Throttled || e.RetryAfter != wait {
				t.Errorf("%s of status %d: %v, want %s after %s", c.Action, status, err, providers.Throttled, wait)
			}
			s.hides(t, err)
		}
		if c.By != providers.CallAbort {
			a.complete(t)
		}
	}
}

// testRefusals has each call refused with each code that is documented for it.
// The upload that met them all is finished afterwards: a refusal spoils nothing.
func testRefusals(t *testing.T, s *subject) {
	t.Helper()
	var checked int
	for _, by := range []providers.Call{providers.CallBegin, providers.CallPut, providers.CallProbe, providers.CallAbort, providers.CallFinish} {
		for action, count := range s.callsOf(by) {
			// Enough for a second chunk of a part, and soon sent.
			a := s.attempt(t, by, count, min(s.partSize(), 1<<20+1000))
			for _, r := range s.Refusals {
				if !slices.Contains(r.Actions, action) {
					continue
				}
				fault := r.Fault
				fault.Action = action
				err := s.once(t, fault, func() error { return a.try(t, by) })
				checked++
				e, ok := errors.AsType[*providers.Error](err)
				switch {
				case !ok || e.Kind != r.Want:
					t.Errorf("%s: %s answered %s: %v, want kind %s", by, action, r.code(), err, r.Want)
				case e.Code != r.code():
					t.Errorf("%s: %s answered %s, the error says %q", by, action, r.code(), e.Code)
				}
				s.hides(t, err)
			}
			if by != providers.CallAbort {
				a.complete(t)
			}
		}
	}
	if checked == 0 {
		t.Error("the harness has no documented code")
	}
	t.Attr(AttrNote, fmt.Sprintf("%d answers, each to a call that documents it", checked))
}
