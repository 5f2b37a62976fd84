package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// Bounds of a secret's key in bytes, from the Standard Webhooks specification.
const (
	minKey = 24
	maxKey = 64
)

// errSecret is the one problem that a secret can have.
var errSecret = errors.New("is not whsec_ and 24 to 64 bytes in base64; make one with: echo whsec_$(openssl rand -base64 32)")

// CheckSecret says what is wrong with a secret, nil if it can sign.
func CheckSecret(s providers.Secret) error {
	_, err := key(s)
	return err
}

func key(s providers.Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(s.Reveal(), "whsec_")
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) < minKey || len(raw) > maxKey {
		return nil, errSecret
	}
	return raw, nil
}

// newRequest makes the request of one try, signed with each of the endpoint's
// secrets.
func newRequest(ctx context.Context, e Endpoint, id string, at time.Time, text []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("the endpoint's address cannot be read") // it may hold a secret
	}
	seconds := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(e.Secrets))
	for i, secret := range e.Secrets {
		k, err := key(secret)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(id + "." + seconds + "."))
		mac.Write(text)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mediaferry")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", seconds)
	req.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
	return req, nil
}
