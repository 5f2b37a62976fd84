// Package uploads is the upload itself: its states, the legal moves between
// them, what a submission must say, and why an upload failed. It is pure; the
// statements that make a move durable are in internal/postgres, and each of
// them names the state that it expects.
package uploads

import "slices"

// State is where an upload stands. The names are those of the database type
// upload_state, of the API and of the logs.
type State string

// The states, in the order in which an upload passes through them.
const (
	Queued    State = "queued"    // accepted: the row is committed
	Digesting State = "digesting" // a worker reads the object once for its digest
	Beginning State = "beginning" // the upstream session is being opened
	Uploading State = "uploading" // parts travel
	Finishing State = "finishing" // the ledger covers every byte; the finishing call is due
	Completed State = "completed" // the asset is recorded; final
	Failed    State = "failed"    // left only by an explicit retry
	Cancelled State = "cancelled" // final
)

// States lists all states in the order of an upload's life.
func States() []State {
	return []State{Queued, Digesting, Beginning, Uploading, Finishing, Completed, Failed, Cancelled}
}

// next says which moves are legal. A retry of a failed upload goes back to
// queued and so opens a new epoch, or to finishing where the outcome of finish
// could not be told: the platform is asked again first.
func (s State) next() []State {
	switch s {
	case Queued:
		// Completed from here and from the next ones when a probe finds that the
		// record is behind: it was restored from an older backup.
		return []State{Digesting, Beginning, Completed, Failed, Cancelled}
	case Digesting:
		return []State{Beginning, Completed, Failed, Cancelled}
	case Beginning:
		return []State{Uploading, Finishing, Completed, Failed, Cancelled}
	case Uploading:
		// Beginning again when the platform lost the session: a new epoch.
		return []State{Finishing, Beginning, Completed, Failed, Cancelled}
	case Finishing:
		return []State{Completed, Beginning, Failed, Cancelled}
	case Failed:
		return []State{Queued, Finishing}
	case Completed, Cancelled:
		return nil
	default:
		return nil
	}
}

// CanMove reports whether the move from s to t is legal.
func (s State) CanMove(t State) bool { return slices.Contains(s.next(), t) }

// Valid reports whether s is one of States.
func (s State) Valid() bool { return slices.Contains(States(), s) }

// Active reports whether work on the upload is still due: neither final nor failed.
func (s State) Active() bool {
	return s.Valid() && s != Completed && s != Failed && s != Cancelled
}
