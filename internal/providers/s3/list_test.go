package s3

import (
	"io"
	"net/http"
	"testing"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

// TestListThatDoesNotGoOn: a list that says that there is more, and not where, is
// neither read for ever nor taken for all.
func TestListThatDoesNotGoOn(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]string{"nowhere": "", "where it began": "<NextPartNumberMarker>0</NextPartNumberMarker>"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			httpClient, address := providertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>9</Size></Part>`+
					next+`<IsTruncated>true</IsTruncated></ListPartsResult>`)
			}))
			client := New(httpClient.Transport)
			p, err := readAccount(testAccount(address))
			if err != nil {
				t.Fatal(err)
			}
			core, err := client.core(callList, p)
			if err != nil {
				t.Fatal(err)
			}
			ctx, told := note(t.Context())
			found, err := listParts(ctx, core, session{place: p, Key: "k", UploadID: "u"}, parts.Plan{Size: 100, PartSize: 9})
			if err == nil || len(found) > 0 {
				t.Fatalf("%d parts, %v", len(found), err)
			}
			if e := classify(callList, err, told); e.Kind != providers.Transient {
				t.Error(e)
			}
		})
	}
}

// TestListNamesAPartTwice: on two pages, which may overlap while parts come in.
func TestListNamesAPartTwice(t *testing.T) {
	t.Parallel()
	httpClient, address := providertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		more := "<NextPartNumberMarker>1</NextPartNumberMarker><IsTruncated>true</IsTruncated>"
		if r.URL.Query().Get("part-number-marker") == "1" {
			more = ""
		}
		_, _ = io.WriteString(w, `<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>9</Size></Part>`+more+`</ListPartsResult>`)
	}))
	p, err := readAccount(testAccount(address))
	if err != nil {
		t.Fatal(err)
	}
	core, err := New(httpClient.Transport).core(callList, p)
	if err != nil {
		t.Fatal(err)
	}
	found, err := listParts(t.Context(), core, session{place: p, Key: "k", UploadID: "u"}, parts.Plan{Size: 100, PartSize: 9})
	if err != nil || len(found) != 1 {
		t.Errorf("%d parts, %v", len(found), err)
	}
}
