-- The members of every barrier, as far as they are known. Those that were too many for an event stand in the object
-- store, where SQL can't see them: they are the tasks that were made as its members and, once it is released, those whose
-- outcomes it names.
CREATE VIEW store.members AS
SELECT barrier_id, position, task_id
FROM store.named_members
UNION ALL
SELECT
    t.barrier_id,
    CASE
        WHEN t.key IS NULL THEN TRY_CAST(regexp_extract(t.task_id, '-([0-9]+)$', 1) AS BIGINT)
        ELSE o.position
    END AS position,
    t.task_id
FROM tasks AS t
JOIN store.known_barriers AS b ON b.barrier_id = t.barrier_id AND b.is_stored
LEFT JOIN store.member_outcomes AS o ON o.barrier_id = t.barrier_id AND o.task_id = t.task_id
-- A revived task has the spec of the dead one, but is no member: its id is neither a position's nor a key's.
WHERE t.key IS NOT NULL OR regexp_matches(t.task_id, '-[0-9]+$')
UNION ALL
SELECT o.barrier_id, o.position, o.task_id
FROM store.member_outcomes AS o
JOIN store.known_barriers AS b ON b.barrier_id = o.barrier_id AND b.is_stored
JOIN tasks AS t ON t.task_id = o.task_id
WHERE t.barrier_id IS DISTINCT FROM o.barrier_id
    AND t.continues IS NULL
