package api

import (
	"net/http"
	"slices"
	"testing"

	"mediaferry/internal/access"
)

// Every route that the API has asks for a scope, and every scope is of a route.
func TestEveryRouteHasAScope(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	description := (&server{}).register(mux).OpenAPI()
	table := scopes()
	for path, item := range description.Paths {
		for method, described := range map[string]bool{
			"GET": item.Get != nil, "POST": item.Post != nil, "PUT": item.Put != nil, "PATCH": item.Patch != nil,
			"DELETE": item.Delete != nil, "HEAD": item.Head != nil, "OPTIONS": item.Options != nil, "TRACE": item.Trace != nil,
		} {
			if route := method + " " + path; described && !slices.Contains(access.Scopes(), table[route]) {
				t.Errorf("%s asks for no scope; name one in scopes()", route)
			}
		}
	}
	for route, scope := range table {
		if scope == open {
			continue
		}
		if item := description.Paths[route[slices.Index([]byte(route), ' ')+1:]]; item == nil {
			t.Errorf("%s has a scope and is no route", route)
		}
	}
}
