package service

import (
	"cmp"

	"mediaferry/internal/config"
	"mediaferry/internal/dispatch"
)

// presignOf is what makes URLs for callers. It signs for the address by which
// they reach staging, which is part of what is signed, and dials nothing.
func presignOf(cfg config.Dispatcher) (dispatch.Presign, error) {
	if cfg.Presign.Bucket == "" {
		return dispatch.Presign{}, nil
	}
	public := cfg.Staging
	public.Endpoint = cmp.Or(cfg.Presign.Endpoint, public.Endpoint)
	signer, err := openStaging(public)
	return dispatch.Presign{Bucket: cfg.Presign.Bucket, Signer: signer}, err
}
