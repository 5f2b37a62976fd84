package api

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// presignCases are the use cases of callers that bring files of their own.
type presignCases interface {
	PresignPut(ctx context.Context, put uploads.Put) (uploads.SignedPut, error)
}

// defaultPutLife is how long a URL is good for where the caller does not say.
const defaultPutLife = time.Hour

func (s *server) registerPresign(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	huma.Register(api, op("POST", "/v1/staging/presign", "presign",
		"Make a URL by which a file is put into staging", 409, 422), s.presign)
}

type presignRequest struct {
	TenantParam
	Body wire.Presign
}

type presignAnswer struct {
	CacheControl string `header:"Cache-Control"`
	Body         wire.Presigned
}

func (s *server) presign(ctx context.Context, in *presignRequest) (*presignAnswer, error) {
	put := uploads.Put{Tenant: in.Tenant, Name: in.Body.Name, Size: in.Body.Size, ContentType: in.Body.ContentType, Life: defaultPutLife}
	if n := in.Body.ExpiresSeconds; n != 0 {
		if most := int64(uploads.MaxPutLife / time.Second); n < 1 || n > most { // in seconds, which may be too many for a duration
			return nil, s.problem("presign", &uploads.FieldError{Field: "expires_seconds", Detail: fmt.Sprintf("is %d; give 1 to %d (7 days)", n, most)})
		}
		put.Life = time.Duration(n) * time.Second
	}
	if in.Body.SHA256 != "" {
		var err error
		if put.SHA256, err = hex.DecodeString(in.Body.SHA256); err != nil {
			return nil, s.problem("presign", &uploads.FieldError{Field: "sha256", Detail: "is not hex; give 64 hex digits"})
		}
	}
	signed, err := s.uc.PresignPut(ctx, put)
	if err != nil {
		return nil, s.problem("presign", err)
	}
	return &presignAnswer{CacheControl: "no-store", Body: wire.Presigned{
		Method: http.MethodPut, URL: signed.URL, Headers: signed.Headers, ExpiresAt: signed.ExpiresAt.UTC(),
		Source: wire.Source{Bucket: signed.Source.Bucket, Key: signed.Source.Key},
	}}, nil
}
