-- Each event of a task beside the one before it, and whether it is the usual next step from there, as nearly all
-- events are: these need no fold. `is_usual` presumes that the events before it were usual too.
CREATE OR REPLACE TEMP TABLE judged AS
WITH placed AS (
    SELECT
        thing_id AS task_id,
        seq,
        CASE WHEN problem IS NULL THEN j.type END AS type,
        j.offer AS "offer",
        j.over AS over,
        j.fence AS fence,
        coalesce(j.attempt, 1) AS attempt,
        j.attempts AS attempts
    FROM batch
    WHERE kind = 'task'
),

paired AS (
    SELECT
        *,
        lag({'seq': seq, 'type': type, 'offer': "offer"}) OVER history AS before,
        first_value(CASE WHEN type = 'task.queued' THEN attempt - 1 ELSE 0 END) OVER history
            AS attempts_first,
        count(*) FILTER (WHERE type = 'task.claimed') OVER history AS claims
    FROM placed
    WINDOW history AS (PARTITION BY task_id ORDER BY seq)
),

settled AS (
    SELECT task_id
    FROM store.settled_tasks
    WHERE task_id IN (SELECT task_id FROM placed)
)

SELECT
    p.* EXCLUDE (before, attempts_first, claims),
    coalesce(
        CASE
            WHEN before IS NOT NULL THEN CASE
                WHEN type = 'task.held' THEN before.type = 'task.queued'
                WHEN type = 'task.queued'
                    THEN before.type IN ('task.held', 'task.retried', 'task.returned')
                WHEN type = 'task.claimed'
                    THEN before.type = 'task.queued' AND p.offer = before.seq AND over IS NULL
                WHEN ends_attempt(type) THEN before.type = 'task.claimed' AND p.fence = before.seq
            END
            WHEN s.task_id IS NOT NULL THEN false
            WHEN type = 'task.held' THEN o.task_id IS NULL OR o.state = 'queued'
            WHEN type = 'task.queued' THEN o.task_id IS NULL OR o.state IN ('held', 'waiting')
            WHEN type = 'task.claimed'
                THEN o.state = 'queued' AND p.offer = o.offer AND over IS NULL
            WHEN ends_attempt(type) THEN p.fence = o.fence
        END,
        false
    ) AS is_usual,
    -- Where all is usual: how many claims there were up to here, and what the claim that ends here took.
    coalesce(o.attempts, attempts_first)::HUGEINT + claims AS claims,
    CASE WHEN before IS NULL THEN o.offer ELSE before.offer END AS offer_claimed,
    CASE WHEN s.task_id IS NULL THEN coalesce(o.state, 'absent') ELSE 'settled' END AS state_stored,
    o.offer AS offer_stored,
    o.fence AS fence_stored,
    o.attempts AS attempts_stored,
    coalesce(o.is_cancel_requested, false) AS is_cancel_requested
FROM paired AS p
LEFT JOIN store.open_tasks AS o USING (task_id)
LEFT JOIN settled AS s USING (task_id)
