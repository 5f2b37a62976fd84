package hashing

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
)

// chainPiece is how many bytes each link of an SMH chain covers.
const chainPiece = 1 << 20

// chain is Tencent SMH's hash of a file, in pieces of 1 MiB. The first link is
// the SHA-256 of the first piece; each later link is the SHA-256 of the link
// before it followed by the next piece. The sum is the first link and then the
// last, which the platform calls beginningHash and fullHash: one pass makes both.
type chain struct {
	link  hash.Hash // the link in hand
	taken int       // bytes of the piece in hand; a full one is closed when more comes
	later bool      // the link in hand is not the first
	head  [sha256.Size]byte
}

func newChain() *chain { return &chain{link: sha256.New()} }

func (c *chain) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if c.taken == chainPiece {
			c.next()
		}
		n := min(len(p), chainPiece-c.taken)
		_, _ = c.link.Write(p[:n]) // a hash never returns an error
		c.taken += n
		p = p[n:]
	}
	return written, nil
}

// next closes the link in hand and begins the one after it.
func (c *chain) next() {
	var sum [sha256.Size]byte
	c.link.Sum(sum[:0])
	if !c.later {
		c.head, c.later = sum, true
	}
	c.link.Reset()
	_, _ = c.link.Write(sum[:]) // a hash never returns an error
	c.taken = 0
}

func (c *chain) Sum(b []byte) []byte {
	last := c.link.Sum(nil)
	if c.later {
		b = append(b, c.head[:]...)
	} else {
		b = append(b, last...)
	}
	return append(b, last...)
}

func (c *chain) Reset() {
	c.link.Reset()
	c.taken, c.later, c.head = 0, false, [sha256.Size]byte{}
}

func (c *chain) Size() int      { return 2 * sha256.Size }
func (c *chain) BlockSize() int { return sha256.BlockSize }

// chainState begins a marshalled chain. After it come later, taken, head and the
// state of the link in hand.
const chainState = "smh\x01"

func (c *chain) MarshalBinary() ([]byte, error) {
	link, err := c.link.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err //nolint:wrapcheck // the pass says of what
	}
	state := append([]byte(chainState), 0)
	if c.later {
		state[len(chainState)] = 1
	}
	state = binary.BigEndian.AppendUint32(state, uint32(c.taken)) //nolint:gosec // at most chainPiece
	state = append(state, c.head[:]...)
	return append(state, link...), nil
}

func (c *chain) UnmarshalBinary(state []byte) error {
	const fixed = len(chainState) + 1 + 4 + sha256.Size
	if len(state) < fixed || string(state[:len(chainState)]) != chainState || state[len(chainState)] > 1 {
		return errors.New("not the state of a chain")
	}
	taken := binary.BigEndian.Uint32(state[len(chainState)+1:])
	if taken > chainPiece {
		return errors.New("the state of a chain is beyond its piece")
	}
	link := sha256.New()
	if err := link.(encoding.BinaryUnmarshaler).UnmarshalBinary(state[fixed:]); err != nil {
		return err //nolint:wrapcheck // the pass says of what
	}
	c.link, c.taken, c.later = link, int(taken), state[len(chainState)] == 1
	copy(c.head[:], state[fixed-sha256.Size:])
	return nil
}
