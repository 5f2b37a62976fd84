-- name: InsertLinks :exec
-- Comparisons of an upload that is not finished: those of a digest pass, and
-- those that keep it from being finished.
INSERT INTO digest_links (upload_id, epoch, stage, kind, expected, expected_from, got, got_from, matched, note)
SELECT @upload_id::uuid, @epoch::int, l.stage, l.kind, l.expected, l.expected_from, l.got, l.got_from,
    CASE WHEN l.compared THEN l.matched END, l.note
FROM (SELECT unnest(@stages::text[]) AS stage, unnest(@kinds::text[]) AS kind,
        unnest(@expected::text[]) AS expected, unnest(@expected_from::text[]) AS expected_from,
        unnest(@got::text[]) AS got, unnest(@got_from::text[]) AS got_from, unnest(@compared::bool[]) AS compared,
        unnest(@matched::bool[]) AS matched, unnest(@notes::text[]) AS note) AS l
ON CONFLICT DO NOTHING;

-- name: CountStage :one
-- How often digests of an upload did not agree at a stage, in an epoch or, with
-- 0, in all of them.
SELECT count(*) FROM part_failures
WHERE upload_id = @upload_id AND stage = @stage AND (@epoch::int = 0 OR epoch = @epoch::int);

-- name: DropCheckpoint :exec
-- A pass whose sums are wrong is not taken up from where it stood, and another
-- one need not wait for it.
UPDATE uploads SET digest_checkpoint = NULL, feed_after = now() WHERE id = @id AND state = 'digesting';
