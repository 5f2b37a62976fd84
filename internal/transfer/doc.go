// Package transfer is the worker's use case: one job from delivery to ack. A
// part job reads its run from staging with one ranged GET and sends each part
// to the platform; a digest job reads a whole object and hashes it.
//
// The order of steps is the argument:
//
//   - A part is acknowledged only after PutPart returned without error and the
//     provider had read every byte of it. What was acknowledged is reported even
//     if the part after it fails, so nothing is sent twice that arrived.
//   - Handle settles a delivery as done only after the reporter confirmed every
//     report of it. A crash before that leaves the job on the queue; its next
//     delivery asks which parts of the run the ledger has and sends the others.
//   - Work cut short by a stop is released: finished parts are still reported,
//     and no failure is counted.
//
// What is done about an error is decided by its kind in one place, courseOf.
// There is one short retry within a delivery, then up to maxDeliveries of them;
// everything else is handed back to the dispatcher as a Failure.
//
// A worker holds at most Config.Slots buffers of maxHeld bytes, whatever the
// size of parts: parts stream from the GET to the PUT unless the platform wants
// their digest before the bytes.
package transfer
