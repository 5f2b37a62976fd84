package tencentugc

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the platform signs with HMAC-SHA1
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/vodapi"
)

// signatureLife is how long our signatures are valid. The platform allows 90 days;
// its own clients ask for two, and a lapsed signature only costs an InitUploadEx
// that finds the stored parts again.
const signatureLife = 48 * time.Hour

// grant is what a signature says, in the platform's short vocabulary.
type grant struct {
	secretID string
	name     string
	fileSHA  string // 40 lower-case hex digits
	fileType string // without the dot
	issued   time.Time
	expires  time.Time
	random   uint32
	uid      string
	options  options
}

// sign returns the upload signature: Base64 of HMAC-SHA1 and the text it is of.
func (g grant) sign(key providers.Secret) string {
	original := g.original()
	mac := hmac.New(sha1.New, []byte(key.Reveal()))
	_, _ = mac.Write([]byte(original)) // a hash never returns an error
	return base64.StdEncoding.EncodeToString(append(mac.Sum(nil), original...))
}

// original returns the signed text. The order of the fields is free; what
// counts is that the bytes sent are the bytes signed.
func (g grant) original() string {
	var b strings.Builder
	field := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name + "=" + vodapi.Escape(value))
	}
	field("s", g.secretID)
	field("f", g.name)
	field("fs", g.fileSHA)
	field("ft", g.fileType)
	field("t", strconv.FormatInt(g.issued.Unix(), 10))
	field("e", strconv.FormatInt(g.expires.Unix(), 10))
	field("r", strconv.FormatUint(uint64(g.random), 10))
	field("uid", g.uid)
	for _, f := range []struct {
		name string
		set  *bool
	}{{"tc", g.options.transcode}, {"ss", g.options.screenshot}, {"wm", g.options.watermark}} {
		if f.set != nil {
			field(f.name, vodapi.Flag(*f.set))
		}
	}
	if g.options.classID != "" {
		field("cid", g.options.classID)
	}
	for i, tag := range g.options.tags {
		field("tag."+strconv.Itoa(i+1), tag)
	}
	return b.String()
}
