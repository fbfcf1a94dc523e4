CREATE VIEW barrier_members AS
-- A member that fanned out itself goes on as its continuation, and that perhaps as another one. A circle, which only
-- a foreign writer could make, has no end.
WITH RECURSIVE trail AS (
    SELECT m.task_id, b.continuation_id AS follower_id
    FROM (SELECT DISTINCT task_id FROM store.members) AS m
    JOIN store.known_barriers AS b ON b.barrier_id = m.task_id AND b.is_by_task
    WHERE b.continuation_id IS NOT NULL
    UNION
    SELECT t.task_id, b.continuation_id
    FROM trail AS t
    JOIN store.known_barriers AS b ON b.barrier_id = t.follower_id AND b.is_by_task
    WHERE b.continuation_id IS NOT NULL
),

lasts AS (
    SELECT task_id, min(follower_id) AS follower_id
    FROM trail
    WHERE follower_id NOT IN (
        SELECT barrier_id FROM store.known_barriers WHERE is_by_task AND continuation_id IS NOT NULL
    )
    GROUP BY task_id
)

SELECT
    m.barrier_id,
    m.position,
    m.task_id,
    o.handler,
    o.queue,
    CASE
        WHEN b.barrier_id IS NULL THEN f.state
        WHEN b.end_state IS NULL THEN 'open'
        WHEN b.end_state = 'released' THEN 'completed'
        WHEN b.why = 'policy' THEN 'failed'
        ELSE 'cancelled'
    END AS state,
    o.attempts,
    o.submitted_at,
    o.started_at,
    CASE WHEN b.barrier_id IS NULL THEN f.settled_at ELSE b.ended_at END AS settled_at,
    CASE WHEN b.barrier_id IS NULL THEN f.settled_seq ELSE b.end_seq END AS settled_seq,
    l.follower_id,
    CASE WHEN b.barrier_id IS NULL THEN f.error_class END AS error_class,
    CASE
        WHEN b.barrier_id IS NULL THEN f.error
        WHEN b.end_state = 'abandoned' THEN b.reason
    END AS error
FROM store.members AS m
LEFT JOIN lasts AS l USING (task_id)
LEFT JOIN tasks AS o ON o.task_id = m.task_id
LEFT JOIN tasks AS f ON f.task_id = coalesce(l.follower_id, m.task_id)
-- The end of a fan-out without a continuation is that of its barrier.
LEFT JOIN store.known_barriers AS b
    ON b.barrier_id = coalesce(l.follower_id, m.task_id) AND b.is_by_task AND b.continuation_id IS NULL
