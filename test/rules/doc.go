// Package rules holds tests of the alert rules and of the dashboards' queries by
// Prometheus's own parser. It is a module of its own, so that the product does
// not depend on Prometheus.
package rules
