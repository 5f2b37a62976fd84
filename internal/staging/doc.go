// Package staging reads the S3-compatible bucket that uploads start from.
//
// What it guarantees: every range is read under If-Match with the ETag that
// the caller gives, so bytes of two versions of an object are never mixed
// (invariant 6), and the answer's own ETag and length are checked as well, for
// servers that ignore the condition. A body that ends early is an error, never
// a clean end. Reads are not retried here: the caller decides by the kind of
// the *Error.
//
// Writing is for `push`, for `dev` and for tests; a worker needs no more than
// read access.
package staging
