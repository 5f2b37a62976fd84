package staging

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"

	"mediaferry/internal/uploads"
)

// PresignPut returns a URL under which anyone may PUT the key until put.Life has
// passed, without credentials. The request must carry the headers that are signed
// with it: the length, so that the server accepts no other; the type; and the
// digest, which the server checks. PresignPut calls no server.
func (s *Store) PresignPut(ctx context.Context, bucket, key string, put uploads.Put) (url string, headers map[string]string, err error) {
	signed := http.Header{}
	headers = map[string]string{}
	set := func(name, value string) {
		signed.Set(name, value)
		headers[name] = value
	}
	set("Content-Length", strconv.FormatInt(put.Size, 10))
	if put.ContentType != "" {
		set("Content-Type", put.ContentType)
	}
	if put.SHA256 != nil {
		set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(put.SHA256))
	}
	u, err := s.read.PresignHeader(ctx, http.MethodPut, bucket, key, put.Life, nil, signed)
	if err != nil {
		return "", nil, classify("presign", bucket, key, err)
	}
	return u.String(), headers, nil
}
