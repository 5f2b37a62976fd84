package upstreams

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the protocol signs with HMAC-SHA1
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of an upload signature.
const (
	maxSignatureLife = 7_776_000 // seconds, 90 days
	clockSkew        = 300       // seconds
)

// claims are what an upload signature says.
type claims struct {
	account  string // SecretId
	fileSHA  string // lower case; "" with the long field names
	fileType string
	oneTime  bool
}

// verifySignature checks an upload signature with either set of field names, in
// the order that the protocol's description gives.
func verifySignature(text string, keys map[string]string, now time.Time) (claims, error) {
	// Line breaks come from encoders that wrap at 76 columns.
	text = strings.NewReplacer("\r", "", "\n", "", " ", "").Replace(text)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) <= sha1.Size {
		return claims{}, fmt.Errorf("signature of %d characters is not Base64 of a MAC and a text", len(text))
	}
	mac, original := raw[:sha1.Size], raw[sha1.Size:]
	fields, err := url.ParseQuery(string(original))
	if err != nil {
		return claims{}, fmt.Errorf("signed text: %w", err)
	}
	c := claims{account: fields.Get("s"), fileSHA: strings.ToLower(fields.Get("fs")), fileType: fields.Get("ft")}
	issued, expires := fields.Get("t"), fields.Get("e")
	short := c.account != ""
	if !short {
		c.account, c.oneTime = fields.Get("secretId"), fields.Get("oneTimeValid") == "1"
		issued, expires = fields.Get("currentTimeStamp"), fields.Get("expireTime")
	}
	key, ok := keys[c.account]
	if !ok {
		return claims{}, fmt.Errorf("SecretId %q is not known", c.account)
	}
	if !hmac.Equal(mac, macOf(key, original)) {
		return claims{}, fmt.Errorf("the MAC is wrong for SecretId %q", c.account)
	}
	from, ferr := strconv.ParseInt(issued, 10, 64)
	until, uerr := strconv.ParseInt(expires, 10, 64)
	switch {
	case ferr != nil || uerr != nil:
		return claims{}, fmt.Errorf("times %q and %q are not numbers", issued, expires)
	case from > now.Unix()+clockSkew:
		return claims{}, fmt.Errorf("issued in the future, at %d", from)
	case now.Unix() >= until:
		return claims{}, fmt.Errorf("expired at %d", until)
	case until-from > maxSignatureLife:
		return claims{}, fmt.Errorf("valid for %d seconds, more than 90 days", until-from)
	}
	if short {
		return c, c.checkShort(fields)
	}
	return c, nil
}

// checkShort checks the fields that only the short names have.
func (c claims) checkShort(fields url.Values) error {
	name := fields.Get("f")
	random, err := strconv.ParseUint(fields.Get("r"), 10, 64)
	switch {
	case !vodName(name):
		return fmt.Errorf("name %q is not 1 to %d bytes without forbidden characters", name, maxFileName)
	case len(c.fileSHA) != 2*sha1.Size:
		return fmt.Errorf("fs %q is not a SHA-1", c.fileSHA)
	case c.fileType == "":
		return errors.New("ft is missing")
	case fields.Get("uid") == "":
		return errors.New("uid is missing")
	case err != nil || random > 9_999_999_999:
		return fmt.Errorf("r %q is not a number of at most 10 digits", fields.Get("r"))
	}
	for _, flag := range []string{"ss", "wm"} {
		if fields.Get(flag) == "1" && fields.Get("tc") != "1" {
			return fmt.Errorf("%s is set without tc", flag)
		}
	}
	return nil
}

// vodName reports whether a file may have the name.
func vodName(name string) bool {
	return name != "" && len(name) <= maxFileName && !strings.ContainsAny(name, `\/:*?"<>`)
}

// verifyContent returns the proof that fileID comes from this platform, for an
// application's own server to check: Base64 of a MAC and the text that it covers.
// The published example has the MAC in hex; the published text says raw bytes.
func verifyContent(key, fileID string, expires int64, hexMAC bool) string {
	text := fmt.Sprintf("ExpTime=%d&FileId=%s", expires, fileID)
	mac := macOf(key, []byte(text))
	if hexMAC {
		mac = []byte(hex.EncodeToString(mac))
	}
	return base64.StdEncoding.EncodeToString(append(mac, text...))
}

func macOf(key string, text []byte) []byte {
	h := hmac.New(sha1.New, []byte(key))
	_, _ = h.Write(text) // a hash never returns an error
	return h.Sum(nil)
}
