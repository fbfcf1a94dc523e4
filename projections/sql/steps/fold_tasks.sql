-- What the batch makes of each task that it speaks of. Where every event was the usual next step that is counting.
CREATE OR REPLACE TEMP TABLE folded AS
SELECT
    task_id,
    state_after(arg_max(type, seq)) AS state,
    coalesce(max(seq) FILTER (WHERE type = 'task.queued'), any_value(offer_stored)) AS "offer",
    CASE WHEN arg_max(type, seq) = 'task.claimed' THEN max(seq) END AS fence,
    greatest(
        max(claims),
        max(attempts) FILTER (WHERE type IN ('task.completed', 'task.failed', 'task.cancelled'))
    ) AS attempts,
    bool_or(is_cancel_requested) AS is_cancel_requested
FROM judged
WHERE task_id NOT IN (SELECT task_id FROM refolded)
GROUP BY task_id
UNION ALL
SELECT task_id, s.state, s.offer, s.fence, s.attempts, s.is_cancel_requested
FROM refolded
