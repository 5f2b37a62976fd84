// Package parts divides an upload into parts and runs, and defines the messages
// that say what became of them. It is pure.
//
// The plan is a function of size and part size alone, so every process that
// knows those two agrees on the number, offset and length of each part, and a
// job can be identifiers only.
package parts

import (
	"errors"
	"fmt"
	"math"

	"mediaferry/internal/hashing"
)

// Part is a byte range of an upload.
type Part struct {
	Number int   // from 1
	Offset int64 // bytes
	Length int64 // bytes, at least 1
}

// Receipt is what the platform returned for a part; Finish is given it back.
type Receipt struct {
	Tag string `json:"tag,omitempty"` // ETag, ctx, or nothing
	// Unconfirmed means that the platform took the part, but named no digest of
	// it to be compared.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// Stored is a part that the platform holds.
type Stored struct {
	Part

	Receipt Receipt
	// Digest is what the platform confirmed of the part's bytes, zero if that is
	// not known, as it may be for a part that was found upstream.
	Digest hashing.Digest
	// Read is of the bytes as they were read from staging, of the kind that is
	// known of the object; zero where nothing is, or where Digest is of that kind.
	Read hashing.Digest
}

// Limits bound the division of an upload into parts. All sizes are bytes.
type Limits struct {
	// MinPart and MaxPart bound every part but the last, which may be smaller;
	// MaxPart 0 is no bound.
	MinPart, MaxPart int64
	// Sizes, if set, are the only part sizes that the platform takes, ascending.
	Sizes []int64
	// Preferred is the part size to use while the count allows it.
	Preferred int64
	// Multiple is what a part size must be a multiple of; 0 for anything.
	Multiple int64
	// MaxParts bounds the count; 0 for no bound.
	MaxParts int
	// MaxSize bounds the whole upload; 0 for what the parts allow.
	MaxSize int64
}

// Errors of NewPlan.
var (
	ErrEmpty    = errors.New("the object is empty")
	ErrTooLarge = errors.New("the object is larger than the platform takes")
)

// Plan is the division of an upload into parts: part n covers PartSize bytes
// from (n-1)·PartSize, the last one what remains.
type Plan struct {
	Size     int64 // bytes, at least 1
	PartSize int64 // bytes, at least 1
}

// NewPlan divides size bytes under the limits: the preferred part size where
// the count allows it, else the smallest allowed size that keeps the count
// within bounds. ErrEmpty and ErrTooLarge say that there is no such plan.
func NewPlan(size int64, l Limits) (Plan, error) {
	if size <= 0 {
		return Plan{}, ErrEmpty
	}
	if l.MaxSize > 0 && size > l.MaxSize {
		return Plan{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, l.MaxSize)
	}
	least := int64(1) // smallest part size that keeps the count within bounds
	if l.MaxParts > 0 {
		least = ceilDiv(size, int64(l.MaxParts))
	}
	if len(l.Sizes) > 0 {
		for _, s := range l.Sizes {
			if s >= least && s >= l.Preferred {
				return Plan{Size: size, PartSize: s}, nil
			}
		}
		if largest := l.Sizes[len(l.Sizes)-1]; largest >= least {
			return Plan{Size: size, PartSize: largest}, nil
		}
		return Plan{}, tooMany(size, l)
	}
	multiple := max(l.Multiple, 1)
	largest := int64(math.MaxInt64)
	if l.MaxPart > 0 {
		largest = l.MaxPart
	}
	largest -= largest % multiple
	partSize := max(least, l.MinPart, min(l.Preferred, largest), 1)
	if partSize > largest {
		return Plan{}, tooMany(size, l)
	}
	return Plan{Size: size, PartSize: ceilDiv(partSize, multiple) * multiple}, nil
}

func tooMany(size int64, l Limits) error {
	return fmt.Errorf("%w: %d bytes do not fit in %d parts", ErrTooLarge, size, l.MaxParts)
}

func ceilDiv(a, b int64) int64 {
	if a%b == 0 {
		return a / b
	}
	return a/b + 1
}

// Count returns the number of parts.
func (p Plan) Count() int { return int(ceilDiv(p.Size, p.PartSize)) }

// Part returns part n, from 1 to Count.
func (p Plan) Part(n int) Part {
	offset := int64(n-1) * p.PartSize
	return Part{Number: n, Offset: offset, Length: min(p.PartSize, p.Size-offset)}
}

// Bounds of a run. A run is read with one ranged GET and settled as one job.
const (
	MaxRunBytes = 16 << 20
	MaxRunParts = 512
)

// Run is adjacent parts that travel in one part job.
type Run struct {
	First int // number of the first part, from 1
	Count int // at least 1
}

// Last returns the number of the run's last part.
func (r Run) Last() int { return r.First + r.Count - 1 }

// Span returns offset and length in bytes of the run under the plan.
func (p Plan) Span(r Run) (offset, length int64) {
	first, last := p.Part(r.First), p.Part(r.Last())
	return first.Offset, last.Offset + last.Length - first.Offset
}

// RunParts returns how many parts a full run has: as many as fit in
// MaxRunBytes, at most MaxRunParts and at least one.
func (p Plan) RunParts() int {
	return int(min(max(MaxRunBytes/p.PartSize, 1), MaxRunParts))
}

// RunBytes returns the length in bytes of a full run.
func (p Plan) RunBytes() int64 { return min(int64(p.RunParts())*p.PartSize, p.Size) }

// Cell returns the run of the fixed grid that part n lies in. Runs never cross
// a cell's border, so a run's first part tells which parts it can hold at most.
func (p Plan) Cell(n int) Run {
	size := p.RunParts()
	first := (n-1)/size*size + 1
	return Run{First: first, Count: min(size, p.Count()-first+1)}
}

// Missing yields the runs of parts from first to last that done does not have,
// split at the borders of cells. The caller stops when it has enough.
func (p Plan) Missing(first, last int, done *Set) func(yield func(Run) bool) {
	return func(yield func(Run) bool) {
		for n := first; n <= last; {
			if done.Has(n) {
				n++
				continue
			}
			end := min(p.Cell(n).Last(), last)
			run := Run{First: n, Count: 1}
			for run.Last() < end && !done.Has(run.Last()+1) {
				run.Count++
			}
			if !yield(run) {
				return
			}
			n = run.Last() + 1
		}
	}
}

// Set is a set of part numbers. The zero Set and a nil *Set are empty.
type Set struct{ words []uint64 }

// Add puts part n into the set.
func (s *Set) Add(n int) {
	word := (n - 1) / 64
	for len(s.words) <= word {
		s.words = append(s.words, 0)
	}
	s.words[word] |= 1 << ((n - 1) % 64)
}

// Has reports whether part n is in the set.
func (s *Set) Has(n int) bool {
	if s == nil || n < 1 {
		return false
	}
	word := (n - 1) / 64
	return word < len(s.words) && s.words[word]&(1<<((n-1)%64)) != 0
}
