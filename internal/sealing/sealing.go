// Package sealing keeps upstream sessions secret at rest: AES-256-GCM under a
// key that is given by reference, with the upload and epoch that the session
// belongs to as associated data, so that a sealed session cannot be moved to
// another row.
package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
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

// version is the first byte of everything sealed, so that the form may change.
const version = 1

// Sealer seals and opens. It is safe for concurrent use.
type Sealer struct{ aead cipher.AEAD }

// New makes a Sealer from the text of a key.
func New(text string) (*Sealer, error) {
	text = strings.TrimSpace(text)
	key, err := hex.DecodeString(text)
	if err != nil {
		if key, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, ErrKey
		}
	}
	if len(key) != 32 {
		return nil, ErrKey
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cipher mode: %w", err)
	}
	return &Sealer{aead: aead}, nil
}

// NewKey returns the text of a fresh key.
func NewKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return hex.EncodeToString(key)
}

// Seal hides plain, bound to the use that is named.
func (s *Sealer) Seal(plain []byte, use string) []byte {
	return s.aead.Seal([]byte{version}, nil, plain, []byte(use)) //nolint:gosec // this mode makes its own nonce and takes none
}

// Open returns what Seal was given for the same use, or ErrSealed.
func (s *Sealer) Open(sealed []byte, use string) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return nil, ErrSealed
	}
	plain, err := s.aead.Open(nil, nil, sealed[1:], []byte(use))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
