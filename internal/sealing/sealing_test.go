package sealing_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"mediaferry/internal/sealing"
)

func TestSealedOpensForItsUseAlone(t *testing.T) {
	t.Parallel()
	s, err := sealing.New(sealing.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("the-upstream-session-token")
	sealed := s.Seal(plain, "session a/1")
	if bytes.Contains(sealed, plain) {
		t.Error("the plain text shows in what is sealed")
	}
	if again := s.Seal(plain, "session a/1"); bytes.Equal(again, sealed) {
		t.Error("the same text was sealed the same way twice")
	}
	if got, err := s.Open(sealed, "session a/1"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Open = %q, %v", got, err)
	}
	other, err := sealing.New(sealing.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another use":     func() ([]byte, error) { return s.Open(sealed, "session a/2") },
		"another key":     func() ([]byte, error) { return other.Open(sealed, "session a/1") },
		"a flipped bit":   func() ([]byte, error) { return s.Open(flipped, "session a/1") },
		"cut short":       func() ([]byte, error) { return s.Open(sealed[:5], "session a/1") },
		"nothing":         func() ([]byte, error) { return s.Open(nil, "session a/1") },
		"another version": func() ([]byte, error) { return s.Open(append([]byte{3}, sealed[1:]...), "session a/1") },
	} {
		if got, err := open(); !errors.Is(err, sealing.ErrSealed) {
			t.Errorf("%s: %q, %v; want ErrSealed", name, got, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	for _, text := range []string{hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key), hex.EncodeToString(key) + "\n"} {
		if _, err := sealing.New(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "short", hex.EncodeToString(key[:31]), base64.StdEncoding.EncodeToString(key[:16])} {
		if _, err := sealing.New(text); !errors.Is(err, sealing.ErrKey) {
			t.Errorf("%q: %v, want ErrKey", text, err)
		}
	}
}

// A new key seals, and what old keys sealed is opened until they are taken out.
func TestRotation(t *testing.T) {
	t.Parallel()
	oldText, newText := sealing.NewKey(), sealing.NewKey()
	sealer := func(text string, old ...string) *sealing.Sealer {
		s, err := sealing.New(text, old...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before, during, after := sealer(oldText), sealer(newText, oldText), sealer(newText)
	wasSealed := before.Seal([]byte("session"), "a/1")
	if got, err := during.Open(wasSealed, "a/1"); err != nil || string(got) != "session" {
		t.Errorf("under an old key: %q, %v", got, err)
	}
	if _, err := after.Open(wasSealed, "a/1"); !errors.Is(err, sealing.ErrSealed) {
		t.Errorf("under a key that was taken out: %v", err)
	}
	nowSealed := during.Seal([]byte("session"), "a/1")
	if got, err := after.Open(nowSealed, "a/1"); err != nil || string(got) != "session" {
		t.Errorf("under the new key alone: %q, %v", got, err)
	}
	if got := hex.EncodeToString(nowSealed[1:5]); got != during.KeyID() || got == before.KeyID() {
		t.Errorf("sealed under key %s, want %s", got, during.KeyID())
	}
}

// What was sealed before keys had ids is opened under whichever key fits.
func TestSealedBeforeKeysHadIDs(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := aead.Seal([]byte{1}, nil, []byte("session"), []byte("a/1"))
	s, err := sealing.New(sealing.NewKey(), hex.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(sealed, "a/1"); err != nil || string(got) != "session" {
		t.Errorf("%q, %v", got, err)
	}
}
