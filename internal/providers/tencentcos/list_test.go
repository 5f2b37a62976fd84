package tencentcos

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
				w.Header().Set(headerRequestID, "r")
				_, _ = io.WriteString(w, `<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>9</Size></Part>`+
					next+`<IsTruncated>true</IsTruncated></ListPartsResult>`)
			}))
			s := session{COS: address, Host: "b.example", Key: "k", COSID: "id", COSKey: "key", UploadID: "u"}
			found, err := New(httpClient).listParts(t.Context(), s, parts.Plan{Size: 100, PartSize: 9})
			if providers.KindOf(err) != providers.Transient || len(found) > 0 || err == nil {
				t.Errorf("%d parts, %v", len(found), err)
			}
		})
	}
}

// TestListNamesAPartTwice: on two pages, which may overlap while parts come in.
func TestListNamesAPartTwice(t *testing.T) {
	t.Parallel()
	httpClient, address := providertest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerRequestID, "r")
		more := "<NextPartNumberMarker>1</NextPartNumberMarker><IsTruncated>true</IsTruncated>"
		if r.URL.Query().Get("part-number-marker") == "1" {
			more = ""
		}
		_, _ = io.WriteString(w, `<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>9</Size></Part>`+more+`</ListPartsResult>`)
	}))
	s := session{COS: address, Host: "b.example", Key: "k", COSID: "id", COSKey: "key", UploadID: "u"}
	found, err := New(httpClient).listParts(t.Context(), s, parts.Plan{Size: 100, PartSize: 9})
	if err != nil || len(found) != 1 {
		t.Errorf("%d parts, %v", len(found), err)
	}
}
