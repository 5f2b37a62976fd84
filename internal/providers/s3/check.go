package s3

import (
	"context"
	"fmt"

	"github.com/minio/minio-go/v7"

	"mediaferry/internal/providers"
)

var _ providers.CredentialChecker = (*Client)(nil)

// CheckCredentials lists the parts of a multipart upload that does not exist.
// Uploads need the right to make that call, and only accepted credentials and an
// existing bucket get the answer "no such upload".
func (c *Client) CheckCredentials(ctx context.Context, account providers.Account) (string, error) {
	p, err := readAccount(account)
	if err != nil {
		return "", &providers.Error{Kind: providers.Rejected, Call: callList, Err: err}
	}
	core, err := c.core(callList, p)
	if err != nil {
		return "", err
	}
	const key, upload = "mediaferry-check", "bWVkaWFmZXJyeS1jaGVjaw"
	ctx, told := note(ctx)
	_, err = core.ListObjectParts(ctx, p.Bucket, p.prefix+key, upload, 0, 1)
	if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
		return "", classify(callList, err, told)
	}
	return fmt.Sprintf("%s of an upload of %s/%s that does not exist: no such upload", callList, p.Bucket, p.prefix+key), nil
}
