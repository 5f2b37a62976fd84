package cdnetworks

import (
	"crypto/sha1" //nolint:gosec // the platform proves files by SHA-1
	"encoding/base64"

	"mediaferry/internal/hashing"
)

// blockSize is the piece that the ETag is made of, and so our block, in bytes.
const blockSize = 4 << 20

// Marks of the two forms of an ETag.
const (
	etagSingle = 0x16 // SHA-1 of a file of one piece, 4 MiB itself included
	etagTree   = 0x96 // SHA-1 of the pieces' SHA-1s
)

// etag returns the platform's hash of a file, given the SHA-1s of its pieces of
// blockSize bytes in order; "" if one of them is not a SHA-1.
func etag(pieces []hashing.Digest) string {
	var sums []byte
	for _, p := range pieces {
		if p.Kind != hashing.SHA1 {
			return ""
		}
		sums = append(sums, p.Bytes()...)
	}
	if len(sums) != len(pieces)*sha1.Size || len(pieces) == 0 {
		return ""
	}
	if len(pieces) == 1 {
		return base64.URLEncoding.EncodeToString(append([]byte{etagSingle}, sums...))
	}
	sum := sha1.Sum(sums) //nolint:gosec // see the import
	return base64.URLEncoding.EncodeToString(append([]byte{etagTree}, sum[:]...))
}
