package uploads

import (
	"errors"
	"time"
)

// SetAside is a message that could not be read, or that was refused for good:
// taken off its stream once it is kept in the record, so that it holds up
// nobody and is not lost. Whoever put it there knows what is in it.
type SetAside struct {
	Number    int64 // given by the record
	Stream    string
	Subject   string
	Seq       uint64    // in the stream
	Published time.Time // to the stream
	Headers   map[string][]string
	Payload   []byte // at most MaxSetAside bytes
	Size      int64  // bytes of the whole payload
	Reason    string // why it is here; no secret
	Worker    string // that met it; "" for a dispatcher
	At        time.Time
}

// MaxSetAside is how much of a payload is kept, in bytes: it fits, encoded, into
// a message of NATS's default size, by which workers report it.
const MaxSetAside = 512 << 10

// Whole reports whether all of the payload is there, so that the message can be
// put back on its stream.
func (m SetAside) Whole() bool { return int64(len(m.Payload)) == m.Size }

// Errors of messages that were set aside.
var (
	ErrNoSetAside = errors.New("no such message is set aside")
	ErrNotWhole   = errors.New("only the beginning of the message is kept, so it cannot be put back; submit anew what it stood for, and drop it")
)

// RefusedError says that what came in is refused for good: it will be refused
// each time that it comes.
type RefusedError struct {
	Reason string // for a person; no secret
	Err    error  // may be nil
}

// Error returns the reason.
func (e *RefusedError) Error() string {
	if e.Err != nil {
		return e.Reason + ": " + e.Err.Error()
	}
	return e.Reason
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }
