// Package helm holds tests of the chart in deploy/helm: it is rendered by Helm's own
// engine, and every object must be what Kubernetes takes. It is a module of its
// own, so that the product does not depend on either.
package helm
