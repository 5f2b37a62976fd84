// Package all lists the providers that are built in.
package all

import (
	"net/http"

	"mediaferry/internal/providers"
)

// New returns the providers by name.
func New(*http.Client) map[string]providers.Provider { return map[string]providers.Provider{} }
