// Package jobs is all of NATS: the streams, the subjects, and who may say what
// on them. Types of nats.go stop here.
//
// The queue is a pipe, never a record (invariant 1): every message can be lost,
// repeated or late without harm, since Postgres knows what was fed and what was
// acknowledged. What follows from it:
//
//   - A job is acked after its report is confirmed by the ACKS stream, a report
//     after the ledger's commit. A crash between the two repeats a message.
//   - Nothing is inferred from an ack. JetStream takes late acks of messages that
//     it has already handed to somebody else.
//   - Streams and consumers are repaired wherever their absence is noticed, and
//     Marks tells the dispatcher when a stream is not the one that it fed.
//
// Workers take one message per free slot and never prefetch: AckWait of a
// message runs from its delivery, whether anybody works on it or not.
//
// Subjects carry identity, so the queue can be asked what it still holds of an
// upload (Held) and can be made to forget it (Withdraw).
package jobs
