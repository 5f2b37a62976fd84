package upstreams

import (
	"fmt"
	"io"
	"net/http"
)

// local is what every server is told and asked beside its protocol: faults, and
// the calls so far. The zero local is ready; it is safe for use by many goroutines.
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

// serveLocal answers an address below /_local, of which files is what the
// server keeps, and reports whether the request was for one.
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

// carriesOut reports whether a call that the fault is for takes effect.
func (f Fault) carriesOut() bool { return !f.fails() || f.Apply }

// drain reads what is left of a body, at most so many bytes: a caller that is
// still sending when the answer comes may see a broken connection in place of it.
// Where the connection is to be reset, it reads no more than the fault says.
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

// answered gives the answer of a fault that has no words of the platform, and
// reports whether there was one to give.
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
