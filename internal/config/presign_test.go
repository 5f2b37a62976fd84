package config

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/uploads"
)

func TestPresignSettings(t *testing.T) {
	t.Parallel()
	signing := Staging{AccessKey: "key"}
	for name, tc := range map[string]struct {
		presign Presign
		staging Staging
		want    []string
	}{
		"none":           {Presign{}, Staging{}, nil},
		"bucket":         {Presign{Bucket: "inbox"}, signing, nil},
		"both":           {Presign{Bucket: "inbox", Endpoint: "https://s3.example.com"}, signing, nil},
		"endpoint alone": {Presign{Endpoint: "https://s3.example.com"}, signing, []string{"presign.bucket"}},
		"no name":        {Presign{Bucket: "in..box"}, signing, []string{"presign.bucket"}},
		"no key":         {Presign{Bucket: "inbox"}, Staging{}, []string{"presign.bucket"}},
		"path":           {Presign{Bucket: "inbox", Endpoint: "https://s3.example.com/x"}, signing, []string{"presign.endpoint"}},
	} {
		var p problemList
		var got []string
		p.presign(tc.presign, tc.staging)
		for _, f := range uploads.FieldErrors(errors.Join(p.errs...)) {
			got = append(got, f.Field)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
