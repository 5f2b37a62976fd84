// Package transfer is the worker's use case: one job from delivery to ack. A
// part job reads its run from staging with one ranged GET and sends each part
// to the platform; a digest job reads a whole object and hashes it.
//
// What makes this safe is the order of the steps:
//
//   - A part is acknowledged only after PutPart has returned without error and
//     the provider has read every byte of the part. Its ack is reported even if
//     the next part fails, so nothing that arrived is sent twice.
//   - Handle settles a delivery as done only after the reporter has confirmed
//     all its reports. A crash before that leaves the job on the queue; its next
//     delivery asks which parts of the run the ledger has and sends the others.
//   - Work cut short by a stop is released: finished parts are still reported,
//     and no failure is counted.
//
// courseOf alone decides what is done about an error, by its kind. There is one
// short retry within a delivery, then up to maxDeliveries deliveries; everything
// else is handed back to the dispatcher as a Failure.
//
// A worker holds at most Config.Slots buffers of maxHeld bytes, whatever the
// size of parts: parts stream from the GET to the PUT unless the platform wants
// their digest before the bytes.
package transfer
