package tencentsmh

import (
	"net/http"
	"testing"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

// TestRefusedBeforeTheBody has the storage refuse a part and close before it has
// read the bytes, so that its answer may be lost: the task's status tells the same.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	address := providertest.Refuse(t, func(r *http.Request) (int, string) {
		if r.Method == http.MethodPut {
			return http.StatusNotFound, `<Error><Code>NoSuchUpload</Code></Error>`
		}
		return http.StatusNotFound, `{"code":"UploadNotFound","message":"the task is gone"}`
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := New(&http.Client{Transport: transport})
	ps := encode(t, session{
		Endpoint: address, Library: "lib", Space: "-", Token: "acctk01", File: []string{"a.mp4"},
		ConfirmKey: "7e84", Object: address + "/smhxxx/xxx.mp4", UploadID: "u", Headers: map[string]string{"Authorization": "q-sign"},
	})
	for range 20 { // now and then the answer arrives
		const size = 16 << 20
		part := parts.Part{Number: 1, Length: size}
		_, err := client.PutPart(t.Context(), ps, part, providertest.NewBody(client.Limits(), make([]byte, size)))
		wantKind(t, "a part of a task that is gone", err, providers.SessionLost)
	}
}
