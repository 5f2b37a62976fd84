// Package devstack runs what mediaferry needs around it, for `mediaferry dev`
// and for tests: a NATS server in this process, Postgres and an S3 server as
// children, worker processes, and the folder that they live in.
//
// Everything is stopped by whoever started it, and nothing outlives this
// process however it ends: on Linux the kernel signals the children when their
// parent is gone, the S3 server also ends with its standard input, and a
// temporary folder that a killed process left is removed by the next one.
//
// All servers listen on 127.0.0.1 only. Postgres and S3 ask for credentials,
// since other users of the machine can reach that too.
//
// A program that starts S3 servers calls ChildMain first thing in main: the
// server is the same binary, started once more. The test helpers are in devtest.
package devstack
