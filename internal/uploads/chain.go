package uploads

import (
	"time"

	"mediaferry/internal/hashing"
)

// DigestStage is a stretch of the way that bytes travel, at whose end digests
// are compared. A mismatch names it.
type DigestStage string

// The stages, in the order in which bytes pass them.
const (
	StageStaging  DigestStage = "staging"  // from the bucket to the worker
	StageTransit  DigestStage = "transit"  // from the worker to the platform, part by part
	StagePlatform DigestStage = "platform" // what the platform made of the parts
)

// Who a digest is from.
const (
	FromSubmitter = "submitter"
	FromBucket    = "bucket"
	FromPass      = "digest pass"
	FromWorker    = "worker"
	FromParts     = "parts" // combined from those of the parts
	FromPlatform  = "platform"
)

// DigestLink is a comparison that took place, one link of an upload's digest
// chain, or the note that none did.
type DigestLink struct {
	Epoch        int // 0 before the first session
	Part         int // 0 for the whole object
	Stage        DigestStage
	Kind         string // of both digests
	Expected     string
	ExpectedFrom string
	Got          string
	GotFrom      string
	Compared     bool
	Matched      bool   // of no meaning unless Compared
	Note         string // why nothing was compared, or what was said of a mismatch
	At           time.Time
}

// Compare makes the link of two digests of one kind.
func Compare(stage DigestStage, expected KnownDigest, got hashing.Digest, from string) DigestLink {
	return DigestLink{
		Stage: stage, Kind: string(expected.Kind), Expected: expected.Sum, ExpectedFrom: expected.From,
		Got: got.Sum, GotFrom: from, Compared: true, Matched: expected.Digest == got,
	}
}

// Uncompared makes the link that says why nothing was compared at a stage.
func Uncompared(stage DigestStage, why string) DigestLink { return DigestLink{Stage: stage, Note: why} }

// KnownDigest is a digest of a whole staging object, and who it is from.
type KnownDigest struct {
	hashing.Digest

	From string
}

// ReadDigest chooses the digest by which the bytes that workers read are
// compared with what is known of the object: one whose sum follows from those
// of the parts. Where parts are hashed under such a kind anyway, that costs
// nothing. Zero means that nothing fitting is known.
func ReadDigest(known []KnownDigest, part hashing.Kind, parts int) KnownDigest {
	for _, kind := range []hashing.Kind{part, hashing.CRC64NVME, hashing.CRC32C, hashing.CRC64ECMA} {
		for _, k := range known {
			if k.Kind == kind && (kind.Combines() || parts == 1) {
				return k
			}
		}
	}
	if parts == 1 && len(known) > 0 {
		return known[0]
	}
	return KnownDigest{}
}

// AssetCheck is what a platform said of the assembled bytes, beside what they
// should be. Kind is the platform's own name where it is none of ours.
type AssetCheck struct {
	Kind     string
	Expected string
	Got      string
}
