package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/hashing"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// noDigest is kept of an object of which staging keeps no digest that is of
// use, so that it is not asked again.
const noDigest = "none"

func bucketText(d hashing.Digest, asked bool) string {
	if asked && d.IsZero() {
		return noDigest
	}
	return d.String()
}

func parseBucketText(text string) (d hashing.Digest, asked bool, err error) {
	if text == noDigest {
		return hashing.Digest{}, true, nil
	}
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return hashing.Digest{}, false, fmt.Errorf("stored digest: %w", err)
	}
	return d, !d.IsZero(), nil
}

func toKnown(digests, pass []string, bucket string) ([]uploads.KnownDigest, error) {
	all, err := parseDigests(digests)
	if err != nil {
		return nil, err
	}
	made, err := parseDigests(pass)
	if err != nil {
		return nil, err
	}
	kept, _, err := parseBucketText(bucket)
	if err != nil {
		return nil, err
	}
	return uploads.Known(all, made, kept), nil
}

// linkColumns are links as the statements take them.
type linkColumns db.InsertLinksParams

func (c *linkColumns) add(l uploads.DigestLink) {
	c.Stages = append(c.Stages, string(l.Stage))
	c.Kinds = append(c.Kinds, l.Kind)
	c.Expected = append(c.Expected, clean(l.Expected))
	c.ExpectedFrom = append(c.ExpectedFrom, l.ExpectedFrom)
	c.Got = append(c.Got, clean(l.Got))
	c.GotFrom = append(c.GotFrom, l.GotFrom)
	c.Compared = append(c.Compared, l.Compared)
	c.Matched = append(c.Matched, l.Matched)
	c.Notes = append(c.Notes, clean(l.Note))
}

// RecordLinks keeps comparisons of an upload that is not finished by them; it
// may be repeated.
func (s *Store) RecordLinks(ctx context.Context, id uploads.ID, epoch int, links []uploads.DigestLink) error {
	c := linkColumns{UploadID: id, Epoch: int32(epoch)} //nolint:gosec // counts sessions
	for _, l := range links {
		c.add(l)
	}
	if err := s.q.InsertLinks(ctx, s.pool, db.InsertLinksParams(c)); err != nil {
		return unavailable("record digest links", err)
	}
	return nil
}

// MismatchesAt counts the tries of an upload whose digests did not agree at a
// stage, in an epoch or, with 0, in all of them.
func (s *Store) MismatchesAt(ctx context.Context, id uploads.ID, epoch int, stage uploads.DigestStage) (int, error) {
	n, err := s.q.CountStage(ctx, s.pool, id, string(stage), int32(epoch)) //nolint:gosec // counts sessions
	if err != nil {
		return 0, unavailable("count mismatches", err)
	}
	return int(n), nil
}

// DropCheckpoint has the digest pass of an upload begin from the first byte.
func (s *Store) DropCheckpoint(ctx context.Context, id uploads.ID) error {
	if err := s.q.DropCheckpoint(ctx, s.pool, id); err != nil {
		return unavailable("drop checkpoint", err)
	}
	return nil
}

// DigestChain returns the comparisons of a tenant's upload, those of the whole
// object before those of its parts. It fails with uploads.ErrNotFound.
func (s *Store) DigestChain(ctx context.Context, tenant string, id uploads.ID) ([]uploads.DigestLink, error) {
	if _, err := s.Upload(ctx, tenant, id); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `
		SELECT epoch, part, stage, kind, expected, expected_from, got, got_from, matched IS NOT NULL, coalesce(matched, false), note, at
		FROM report.digest_chain WHERE upload_id = $1
		ORDER BY epoch, part, at, expected_from`, id)
	if err != nil {
		return nil, unavailable("read digest chain", err)
	}
	links, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l uploads.DigestLink, err error) {
		err = row.Scan(&l.Epoch, &l.Part, &l.Stage, &l.Kind, &l.Expected, &l.ExpectedFrom, &l.Got, &l.GotFrom,
			&l.Compared, &l.Matched, &l.Note, &l.At)
		return l, err //nolint:wrapcheck // it is below
	})
	if err != nil {
		return nil, unavailable("read digest chain", err)
	}
	return links, nil
}
