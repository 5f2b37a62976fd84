package apitest

import (
	"context"
	"time"

	"mediaferry/internal/uploads"
)

// PresignPut answers with the URL that the test set.
func (p port) PresignPut(_ context.Context, put uploads.Put) (uploads.SignedPut, error) {
	if err := put.Validate(); err != nil {
		return uploads.SignedPut{}, err
	}
	if p.uc.PutURL == "" {
		return uploads.SignedPut{}, uploads.ErrNoPresign
	}
	return uploads.SignedPut{
		URL: p.uc.PutURL, Source: uploads.Object{Bucket: "staging", Key: "incoming/" + put.Tenant + "/1/" + put.Name},
		ExpiresAt: time.Now().Add(put.Life),
	}, p.uc.failure()
}
