package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestVerifyWebhook(t *testing.T) {
	t.Parallel()
	const secret, other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	body := []byte(`{"type":"upload.completed","timestamp":"2026-11-21T04:00:00Z","data":{"upload":"u"}}`)
	now := time.Unix(1614265330, 0)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("msg_1." + strconv.FormatInt(now.Unix(), 10) + "." + string(body)))
	right := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	tests := map[string]struct {
		id, signature string
		body          []byte
		now           time.Time
		secrets       []string
		want          error
	}{
		"right":              {"msg_1", right, body, now, []string{secret}, nil},
		"one of two secrets": {"msg_1", right, body, now, []string{other, secret}, nil},
		"one of two":         {"msg_1", "v1,AAAA " + right, body, now.Add(4 * time.Minute), []string{secret}, nil},
		"another secret":     {"msg_1", right, body, now, []string{other}, ErrWebhook},
		"no secret":          {"msg_1", right, body, now, nil, ErrWebhook},
		"another body":       {"msg_1", right, body[:len(body)-1], now, []string{secret}, ErrWebhook},
		"another id":         {"msg_2", right, body, now, []string{secret}, ErrWebhook},
		"no id":              {"", right, body, now, []string{secret}, ErrWebhook},
		"another version":    {"msg_1", "v2" + right[2:], body, now, []string{secret}, ErrWebhook},
		"none":               {"msg_1", "", body, now, []string{secret}, ErrWebhook},
		"sent again":         {"msg_1", right, body, now.Add(6 * time.Minute), []string{secret}, ErrWebhook},
		"from the future":    {"msg_1", right, body, now.Add(-6 * time.Minute), []string{secret}, ErrWebhook},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			h.Set("webhook-id", tt.id)
			h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
			h.Set("webhook-signature", tt.signature)
			e, err := verifyWebhook(h, tt.body, tt.now, tt.secrets...)
			if !errors.Is(err, tt.want) || tt.want == nil && (e.ID != "msg_1" || e.Type != "upload.completed" || string(e.Data) != `{"upload":"u"}`) {
				t.Errorf("verifyWebhook = %+v, %v; want error %v", e, err, tt.want)
			}
		})
	}
	if _, err := VerifyWebhook(http.Header{"Webhook-Id": {"m"}, "Webhook-Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}}, body, "whsec_!"); err == nil || errors.Is(err, ErrWebhook) || strings.Contains(err.Error(), "!") {
		t.Errorf("a secret that is none: %v", err)
	}
}
