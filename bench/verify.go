package main

import (
	"errors"
	"fmt"

	"mediaferry/bench/sink"
)

// maxDifferences is how many objects an error names.
const maxDifferences = 3

// verify compares what the sink holds with what was to be moved: every object,
// its size and the CRC64-NVME of its bytes in order, and nothing else. A mover
// that moved less has no result, however fast it was.
func (d *dataset) verify(got sink.Stats, bucket string) error {
	var errs []error
	differ := func(format string, args ...any) {
		if len(errs) < maxDifferences {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if got.Objects != d.count || got.Bytes != d.bytes() {
		differ("%d objects of %d bytes arrived, want %d of %d", got.Objects, got.Bytes, d.count, d.bytes())
	}
	for _, key := range d.keys() {
		object, ok := got.Keys[bucket+"/"+key]
		switch {
		case !ok:
			differ("%s did not arrive", key)
		case object.Completed.IsZero():
			differ("%s was not completed", key)
		case object.Size != d.size:
			differ("%s has %d bytes, want %d", key, object.Size, d.size)
		case object.CRC64NVME != d.crc64[key]:
			differ("%s has crc64nvme %s, want %s", key, object.CRC64NVME, d.crc64[key])
		}
	}
	if extra := len(got.Keys) - d.count; extra > 0 && len(errs) == 0 {
		differ("%d keys arrived that are not in the source", extra)
	}
	return errors.Join(errs...)
}
