package transfer

import (
	"fmt"
	"hash"

	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

// sums hashes one part after another: with the kind that the platform checks and,
// if that is another, with the kind by which the object is known.
type sums struct {
	part, read         hash.Hash // nil where no such digest is asked for
	partKind, readKind hashing.Kind
	// whole is the digest that the bytes must have if the part is the whole object;
	// zero otherwise.
	whole uploads.KnownDigest
}

func newSums(a *assignment) (*sums, error) {
	s := &sums{partKind: a.limits.PartDigest, readKind: a.known.Kind}
	if a.plan.Count() == 1 {
		s.whole = a.known
	}
	var err error
	if s.partKind != "" {
		if s.part, err = hashing.NewHash(s.partKind); err != nil {
			return nil, fmt.Errorf("digest of parts: %w", err)
		}
	}
	if s.readKind != "" && s.readKind != s.partKind {
		if s.read, err = hashing.NewHash(s.readKind); err != nil {
			return nil, fmt.Errorf("digest of the object: %w", err)
		}
	}
	return s, nil
}

// begin starts a part.
func (s *sums) begin() {
	if s.part != nil {
		s.part.Reset()
	}
	if s.read != nil {
		s.read.Reset()
	}
}

// add hashes the next bytes of the part.
func (s *sums) add(p []byte) {
	if s.part != nil {
		_, _ = s.part.Write(p) // a hash never returns an error
	}
	if s.read != nil {
		_, _ = s.read.Write(p) // a hash never returns an error
	}
}

// end returns the digests of the part: the one for the platform, and the one by
// which the object is known if that is another; zero for one that is not asked
// for. The error says that the part is the whole object and has another digest
// than the known one.
func (s *sums) end() (part, read hashing.Digest, err error) {
	if s.part != nil {
		part = hashing.New(s.partKind, s.part.Sum(nil))
	}
	if s.read != nil {
		read = hashing.New(s.readKind, s.read.Sum(nil))
	}
	got := read
	if s.readKind == s.partKind {
		got = part
	}
	if !s.whole.IsZero() && got != s.whole.Digest {
		err = &sourceMismatchError{known: s.whole, got: got}
	}
	return part, read, err
}

// sourceMismatchError says that the bytes read are not those of the object.
type sourceMismatchError struct {
	known uploads.KnownDigest
	got   hashing.Digest
}

func (e *sourceMismatchError) Error() string {
	return fmt.Sprintf("%s of the object is %s (%s), of the bytes read %s", e.known.Kind, e.known.Sum, e.known.From, e.got.Sum)
}
