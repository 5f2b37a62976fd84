// Package staging reads the S3-compatible bucket that uploads start from.
//
// Every range is read under If-Match with the ETag that the caller gives, so
// bytes of two versions of an object are never mixed (invariant 6). The answer's
// own ETag and length are checked as well, for servers that ignore the condition.
// A body that ends early is an error, never a clean end. Reads are not retried
// here: the caller decides by the kind of the *Error.
//
// Writing is for `push`, `dev` and tests; a worker needs read access only.
package staging
