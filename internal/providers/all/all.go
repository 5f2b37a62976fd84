// Package all lists the providers.
package all

import (
	"net/http"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/cdnetworks"
	"mediaferry/internal/providers/s3"
	"mediaferry/internal/providers/tencentcos"
	"mediaferry/internal/providers/tencentsmh"
	"mediaferry/internal/providers/tencentugc"
	"mediaferry/internal/providers/tencentvod"
)

// New returns the providers by the name that an account gives. They share the
// client's transport and so its connections; a nil transport is
// http.DefaultTransport.
func New(client *http.Client) map[string]providers.Provider {
	transport := client.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	return map[string]providers.Provider{
		"cdnetworks": cdnetworks.New(client),
		"s3":         s3.New(transport),
		"tencentsmh": tencentsmh.New(client),
		"tencentcos": tencentcos.New(client),
		"tencentugc": tencentugc.New(client),
		"tencentvod": tencentvod.New(client),
	}
}
