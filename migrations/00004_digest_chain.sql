-- +goose Up
-- The digest chain: what was hashed where, and compared with what. Comparisons
-- of single parts are the ledger's own rows, which this only completes; those of
-- whole objects have a table.

ALTER TABLE uploads
    ADD COLUMN bucket_digest text   NOT NULL DEFAULT '', -- that staging keeps of the object, 'none', or '' before it was asked
    ADD COLUMN pass_digests  text[] NOT NULL DEFAULT '{}'; -- of digests: made by a digest pass; the others are the submitter's
ALTER TABLE part_acks
    ADD COLUMN read_digest text    NOT NULL DEFAULT '',   -- of the bytes as read, of the kind that is known of the object
    ADD COLUMN confirmed   boolean NOT NULL DEFAULT true; -- the platform's answer was compared with digest
ALTER TABLE part_failures
    ADD COLUMN stage text NOT NULL DEFAULT ''; -- of a digest that did not agree

CREATE TABLE digest_links (
    upload_id     uuid        NOT NULL,
    epoch         integer     NOT NULL, -- 0 before the first session
    stage         text        NOT NULL CONSTRAINT digest_links_stage CHECK (stage IN ('staging', 'transit', 'platform')),
    kind          text        NOT NULL DEFAULT '',
    expected      text        NOT NULL DEFAULT '',
    expected_from text        NOT NULL DEFAULT '',
    got           text        NOT NULL DEFAULT '',
    got_from      text        NOT NULL DEFAULT '',
    matched       boolean,    -- NULL: nothing was compared, and note says why
    note          text        NOT NULL DEFAULT '',
    at            timestamptz NOT NULL DEFAULT now(),
    -- A step that is taken again compares the same again.
    CONSTRAINT digest_links_once UNIQUE (upload_id, epoch, stage, kind, expected, expected_from, got, got_from)
);

CREATE VIEW report.digest_chain AS
SELECT l.upload_id, l.epoch, 0 AS part, l.stage, l.kind, l.expected, l.expected_from, l.got, l.got_from,
       l.matched, l.note, l.at
FROM digest_links l
UNION ALL
SELECT a.upload_id, a.epoch, a.part, 'transit',
       split_part(a.digest, ':', 1),
       CASE WHEN a.found THEN '' ELSE split_part(a.digest, ':', 2) END,
       CASE WHEN a.found THEN '' ELSE 'worker' END,
       CASE WHEN a.confirmed THEN split_part(a.digest, ':', 2) ELSE '' END,
       'platform',
       CASE WHEN a.confirmed AND NOT a.found AND a.digest <> '' THEN true END,
       CASE WHEN a.found THEN 'found upstream, not sent in this epoch'
            WHEN NOT a.confirmed OR a.digest = '' THEN 'the platform names no digest of the part' ELSE '' END,
       a.acked_at
FROM part_acks a
UNION ALL
SELECT f.upload_id, f.epoch, f.part, f.stage, '', '', '', '', '', false, f.message, f.failed_at
FROM part_failures f
WHERE f.stage <> '' AND (f.part > 0 OR f.stage <> 'staging'); -- of the whole object there are links

COMMENT ON VIEW report.digest_chain IS 'Every comparison of digests of an upload: one row for each part and one for each of the whole object.';
COMMENT ON COLUMN report.digest_chain.upload_id IS 'The upload.';
COMMENT ON COLUMN report.digest_chain.epoch IS 'The upstream session in which the bytes travelled; 0 before the first.';
COMMENT ON COLUMN report.digest_chain.part IS 'Number of the part, 0 for the whole object.';
COMMENT ON COLUMN report.digest_chain.stage IS 'staging: what was read; transit: what the platform received of a part; platform: what it made of the parts.';
COMMENT ON COLUMN report.digest_chain.kind IS 'Of the digests, such as crc64nvme; empty for a try that failed, which note describes.';
COMMENT ON COLUMN report.digest_chain.expected IS 'The digest that the bytes should have.';
COMMENT ON COLUMN report.digest_chain.expected_from IS 'Who says so: bucket, submitter, digest pass, worker or parts.';
COMMENT ON COLUMN report.digest_chain.got IS 'The digest that they had.';
COMMENT ON COLUMN report.digest_chain.got_from IS 'Who found it: worker, digest pass, parts or platform.';
COMMENT ON COLUMN report.digest_chain.matched IS 'Whether the two agree; NULL where nothing was compared, and note says why.';
COMMENT ON COLUMN report.digest_chain.note IS 'Why nothing was compared, or what was said of a mismatch.';
COMMENT ON COLUMN report.digest_chain.at IS 'When it was compared.';

-- +goose Down
DROP VIEW report.digest_chain;
DROP TABLE digest_links;
ALTER TABLE part_failures DROP COLUMN stage;
ALTER TABLE part_acks DROP COLUMN read_digest, DROP COLUMN confirmed;
ALTER TABLE uploads DROP COLUMN bucket_digest, DROP COLUMN pass_digests;
