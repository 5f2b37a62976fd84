package service

import (
	"mediaferry/internal/config"
	"mediaferry/internal/dispatch"
	"mediaferry/internal/webhooks"
)

// useCases is what the API serves.
type useCases struct {
	*dispatch.Dispatcher
	*webhooks.Webhooks
}

// endpointsOf is the configured endpoints as webhooks takes them. Their addresses
// are held to what is public and to the networks that are allowed, as those are
// that platforms name: who may set an address is not always who may reach
// everything that a dispatcher does.
func endpointsOf(all []config.Webhook) []webhooks.Endpoint {
	endpoints := make([]webhooks.Endpoint, len(all))
	for i, w := range all {
		endpoints[i] = webhooks.Endpoint{
			Name: w.Name, Tenant: w.Tenant, URL: w.URL, Types: w.Events, Secrets: w.Secrets(),
			Reach: reachOf(config.Account{AllowNetworks: w.AllowNetworks}),
		}
	}
	return endpoints
}
