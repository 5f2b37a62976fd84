package apitest

import (
	"context"
	"slices"
	"time"

	"mediaferry/internal/uploads"
)

// CheckAccount answers that an account's credentials are taken, but for bad, whose
// are refused, and slow, whose platform has no such call.
func (p port) CheckAccount(_ context.Context, _, name string) (uploads.AccountCheck, error) {
	if !slices.Contains(p.uc.Names, name) {
		return uploads.AccountCheck{}, uploads.ErrNoAccount
	}
	check := uploads.AccountCheck{Account: name, Provider: "s3", Result: uploads.CheckTaken, Detail: "ListParts: no such upload", At: time.Now(), Took: time.Second}
	switch name {
	case "bad":
		check.Result, check.Detail = uploads.CheckRefused, "ListParts: unauthorized (InvalidAccessKeyId)"
	case "slow":
		check.Result, check.Detail = uploads.CheckNotPossible, "not possible without beginning an upload"
	}
	return check, p.uc.failure()
}
