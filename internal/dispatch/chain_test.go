package dispatch

import (
	"testing"

	"pgregory.net/rapid"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// However an object is cut, whichever combinable digest is known of it, and
// whichever the parts have for the platform: the parts of its own bytes match,
// and one bit that is another does not.
func TestSourceLinks(t *testing.T) {
	t.Parallel()
	combinable := []hashing.Kind{hashing.CRC64NVME, hashing.CRC64ECMA, hashing.CRC32C}
	all := []hashing.Kind{hashing.CRC64NVME, hashing.CRC64ECMA, hashing.CRC32C, hashing.MD5, hashing.SHA1, ""}
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")
		plan := parts.Plan{Size: int64(len(data)), PartSize: rapid.Int64Range(1, 300).Draw(t, "part size")}
		sum := func(kind hashing.Kind, data []byte) hashing.Digest {
			if kind == "" {
				return hashing.Digest{}
			}
			d, err := hashing.Sum(kind, data)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		known := []uploads.KnownDigest{{Digest: sum(rapid.SampledFrom(combinable).Draw(t, "known"), data), From: uploads.FromBucket}}
		kind := rapid.SampledFrom(all).Draw(t, "of parts")
		compare := uploads.ReadDigest(known, kind, plan.Count())
		read := append([]byte{}, data...)
		flip := rapid.Bool().Draw(t, "flip")
		if flip {
			bit := rapid.IntRange(0, 8*len(data)-1).Draw(t, "bit")
			read[bit/8] ^= 1 << (bit % 8)
		}
		var stored []parts.Stored
		for n := 1; n <= plan.Count(); n++ {
			p := plan.Part(n)
			bytes := read[p.Offset : p.Offset+p.Length]
			s := parts.Stored{Part: p, Digest: sum(kind, bytes)}
			if compare.Kind != kind {
				s.Read = sum(compare.Kind, bytes)
			}
			stored = append(stored, s)
		}
		links, wrong := sourceLinks(known, kind, stored)
		if len(links) != 1 || !links[0].Compared || (wrong != nil) != flip {
			t.Errorf("flipped %t: links %+v, wrong %+v", flip, links, wrong)
		}
	})
}

// What cannot be compared is said to be so, never to match.
func TestSourceLinksSayWhatTheyLack(t *testing.T) {
	t.Parallel()
	part := func(n int, digest hashing.Kind) parts.Stored {
		s := parts.Stored{Part: parts.Part{Number: n, Offset: int64(n - 1), Length: 1}}
		if digest != "" {
			s.Digest = hashing.Digest{Kind: digest, Sum: "0000000000000000"}
		}
		return s
	}
	bucket := []uploads.KnownDigest{{Digest: hashing.Digest{Kind: hashing.CRC64NVME, Sum: "0000000000000000"}, From: uploads.FromBucket}}
	sha := []uploads.KnownDigest{{Digest: hashing.Digest{Kind: hashing.SHA256, Sum: "00"}, From: uploads.FromSubmitter}}
	for name, tt := range map[string]struct {
		known  []uploads.KnownDigest
		stored []parts.Stored
	}{
		"nothing known":         {nil, []parts.Stored{part(1, hashing.CRC64NVME), part(2, hashing.CRC64NVME)}},
		"known, not combinable": {sha, []parts.Stored{part(1, hashing.CRC64NVME), part(2, hashing.CRC64NVME)}},
		"a part was found":      {bucket, []parts.Stored{part(1, hashing.CRC64NVME), part(2, "")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			links, wrong := sourceLinks(tt.known, hashing.CRC64NVME, tt.stored)
			if wrong != nil || len(links) != 1 || links[0].Compared || links[0].Note == "" {
				t.Errorf("links %+v, wrong %+v; want one that says why nothing was compared", links, wrong)
			}
		})
	}
}
