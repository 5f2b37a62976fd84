package upstreams

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"
)

// local is what every server offers besides its protocol: faults and the calls
// so far. The zero local is ready for use, by many goroutines at once.
type local struct {
	calls  callLog
	faults faultList
}

// AddFaults puts faults into force.
func (l *local) AddFaults(faults ...Fault) { l.faults.add(faults...) }

// ClearFaults withdraws all faults.
func (l *local) ClearFaults() { l.faults.clear() }

// Calls returns the calls so far, oldest first.
func (l *local) Calls() []Call { return l.calls.all() }

// serveLocal answers an address below /_local and reports whether the request
// was for one; files returns what the server has received.
func (l *local) serveLocal(w http.ResponseWriter, r *http.Request, files func() any) bool {
	switch r.URL.Path {
	case "/_local/calls":
		writeJSON(w, l.Calls())
	case "/_local/files":
		writeJSON(w, files())
	case "/_local/faults":
		l.faults.serve(w, r)
	default:
		return false
	}
	return true
}

// callInHand is one call on its way through a server. Reading it reads the
// request's body and counts the bytes.
type callInHand struct {
	Call

	body  io.Reader
	fault Fault
}

// Read reads the body.
func (c *callInHand) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.Received += int64(n)
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// meetFault finds the fault for the call and waits as long as it says. It
// reports false if the caller left meanwhile.
func (l *local) meetFault(ctx context.Context, c *callInHand) bool {
	c.fault = l.faults.hit(c.Action, c.Account, c.File)
	c.body = slowed(ctx, c.body, c.fault.BytesPerSecond)
	return c.fault.delay(ctx, &c.Call)
}

// delay waits as long as the fault says. If the caller leaves meanwhile, it
// notes so as the call's outcome and reports false.
func (f Fault) delay(ctx context.Context, c *Call) bool {
	if f.DelayMS > 0 && wait(ctx, time.Duration(f.DelayMS)*time.Millisecond) != nil {
		c.Outcome = "the caller left"
		return false
	}
	return true
}

// carriesOut reports whether a call that the fault is for takes effect.
func (f Fault) carriesOut() bool { return !f.fails() || f.Apply }

// maxDrain bounds what is read of a refused body, in bytes.
const maxDrain = 64 << 20

// drain reads what is left of a body, at most so many bytes: a caller that is
// still sending when the answer comes may see a broken connection instead of it.
// Before a reset it reads as many bytes as the fault says and no more.
func (f Fault) drain(body io.Reader, most int64) {
	if f.Reset {
		most = f.AfterBytes
	}
	_, _ = io.CopyN(io.Discard, body, most) // the caller may send less
}

// outcome is what the log says of a call: what the fault did, else the refusal,
// else "ok".
func (f Fault) outcome(refusal string) string {
	switch {
	case f.fails():
		return fmt.Sprintf("fault, applied: %t", f.Apply)
	case refusal != "":
		return refusal
	default:
		return "ok"
	}
}

// answered gives the fault's answer where it is the same on every platform, and
// reports whether it did.
func (f Fault) answered(w http.ResponseWriter) bool {
	switch {
	case f.Reset:
		reset(w)
	case f.Status != 0:
		f.statusAnswer(w)
	case f.Text != "":
		_, _ = io.WriteString(w, f.Text) // the client may be gone
	default:
		return false
	}
	return true
}

// randomHex returns n random bytes as 2n hex digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// isoTime writes a time as the platforms' APIs do, in UTC to the millisecond.
func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
