// Package sealing keeps upstream sessions secret at rest: AES-256-GCM under a
// key that is given by reference, with the upload and epoch that the session
// belongs to as associated data, so that a sealed session cannot be moved to
// another row. Keys are rotated by sealing under a new one while the old ones
// still open.
package sealing

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrKey is returned for a key that is not 32 bytes in hex or base64.
var ErrKey = errors.New("is not 32 bytes in hex or base64; make one with: openssl rand -hex 32")

// ErrSealed is returned for what was not sealed under this key for this use.
var ErrSealed = errors.New("sealed under another key, or damaged")

// The first byte of everything sealed tells its form.
const (
	formPlain = 1 // sealed bytes alone, of before keys had ids: every key is tried
	formKeyID = 2 // the key's id, then the sealed bytes
)

const idSize = 4 // bytes of a key's id

// Sealer seals under one key and opens under several. It is safe for concurrent use.
type Sealer struct {
	keys []key // the first one seals
}

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New makes a Sealer from the text of the key that seals, and those of keys that
// only open what they sealed before.
func New(text string, old ...string) (*Sealer, error) {
	s := &Sealer{}
	for _, t := range append([]string{text}, old...) {
		k, err := newKey(t)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

func newKey(text string) (key, error) {
	text = strings.TrimSpace(text)
	raw, err := hex.DecodeString(text)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")); err != nil {
			return key{}, ErrKey
		}
	}
	if len(raw) != 32 {
		return key{}, ErrKey
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, fmt.Errorf("cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, fmt.Errorf("cipher mode: %w", err)
	}
	// Another input than the key's own digest, so that the id gives away nothing
	// that a digest of the key is used for elsewhere.
	sum := sha256.Sum256(append([]byte("mediaferry seal key "), raw...))
	return key{id: [idSize]byte(sum[:idSize]), aead: aead}, nil
}

// KeyID returns the id of the key that seals, in hex: bytes 2 to 5 of what it sealed.
func (s *Sealer) KeyID() string { return hex.EncodeToString(s.keys[0].id[:]) }

// Prefix returns how all begins that is sealed under the key that seals.
func (s *Sealer) Prefix() []byte { return append([]byte{formKeyID}, s.keys[0].id[:]...) }

// NewKey returns the text of a fresh key.
func NewKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return hex.EncodeToString(key)
}

// Seal hides plain, bound to the use that is named.
func (s *Sealer) Seal(plain []byte, use string) []byte {
	k := s.keys[0]
	return k.aead.Seal(s.Prefix(), nil, plain, []byte(use)) //nolint:gosec // this mode makes its own nonce and takes none
}

// Open returns what Seal was given for the same use, or ErrSealed.
func (s *Sealer) Open(sealed []byte, use string) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, ErrSealed
	}
	form, rest := sealed[0], sealed[1:]
	switch {
	case form == formPlain:
		for _, k := range s.keys {
			if plain, err := k.aead.Open(nil, nil, rest, []byte(use)); err == nil {
				return plain, nil
			}
		}
	case form == formKeyID && len(rest) > idSize:
		for _, k := range s.keys {
			if !bytes.Equal(k.id[:], rest[:idSize]) {
				continue
			}
			if plain, err := k.aead.Open(nil, nil, rest[idSize:], []byte(use)); err == nil {
				return plain, nil
			}
		}
	}
	return nil, ErrSealed
}
