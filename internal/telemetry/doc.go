// Package telemetry is the metrics and traces of both processes. It wraps the
// ports between the use cases and the world, so that neither side knows of it:
// providers, the queue, staging, statements, jobs in hand.
//
// Metrics: no label has a value for each upload, worker or message. Accounts are
// a label, since the configuration bounds them. A value that comes from a message
// is used only if it is a known one; otherwise the label is "other".
//
// Traces: an upload is one trace, whose id is the upload's. So every process can
// add to it without having heard of the others, through restarts and for days,
// and nothing about it is stored. The span that encloses the others is made when
// the upload has ended; its id, too, is made from the upload's. If a message
// carries a traceparent, the work it causes is placed below the span that sent it.
package telemetry
