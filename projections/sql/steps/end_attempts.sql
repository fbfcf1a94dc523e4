-- The attempts that end in the batch. Runs before the open tasks are replaced: the claim that ended may be an earlier
-- batch's.
CREATE OR REPLACE TEMP TABLE attempts_ended AS
WITH ends AS (
    SELECT
        seq,
        stored_at,
        j,
        TRY(json_transform(
            j.worktree,
            '{
                "branch": "VARCHAR", "commits": "BIGINT", "files_changed": "BIGINT", "insertions": "BIGINT",
                "deletions": "BIGINT"
            }'
        )) AS w
    FROM batch
)

SELECT
    e.task_id,
    TRY_CAST(e.attempt AS BIGINT) AS attempt,
    e.fence AS fence,
    e.offer AS offer,
    -- By the offer that it claimed: a submit that replaced another one may have made the task a different one.
    coalesce(q.spec.handler, o.spec.handler, n.spec.handler) AS handler,
    coalesce(q.spec.queue, o.spec.queue, n.spec.queue) AS queue,
    coalesce(q.spec.priority, o.spec.priority, n.spec.priority) AS priority,
    coalesce(c.j.host, o.lease.host) AS host,
    coalesce(c.j.agent_id, o.lease.agent_id) AS agent_id,
    coalesce(c.j.worker_id, o.lease.worker_id) AS worker_id,
    coalesce(q.stored_at, o.offered_at) AS queued_at,
    coalesce(c.stored_at, o.lease.claimed_at) AS claimed_at,
    b.seq AS end_seq,
    b.stored_at AS ended_at,
    CASE WHEN b.j.type = 'task.claimed' THEN 'lost' ELSE substr(b.j.type, 6) END AS outcome,
    CASE WHEN b.j.type = 'task.claimed' THEN 'lost' ELSE b.j.error_class END AS error_class,
    b.j.error AS error,
    b.j.ran_ms AS ran_ms,
    b.j.exit_code AS exit_code,
    CASE WHEN b.j.usage IS NOT NULL THEN coalesce(b.j.usage.input_tokens, 0) END AS input_tokens,
    CASE WHEN b.j.usage IS NOT NULL THEN coalesce(b.j.usage.output_tokens, 0) END AS output_tokens,
    b.j.usage.model AS model,
    CASE WHEN b.j.usage IS NOT NULL THEN coalesce(b.j.usage.cost_micro_usd, 0) END AS cost_micro_usd,
    b.w.branch AS branch,
    CASE WHEN b.w IS NOT NULL THEN coalesce(b.w.commits, 0) END AS commits,
    CASE WHEN b.w IS NOT NULL THEN coalesce(b.w.files_changed, 0) END AS files_changed,
    CASE WHEN b.w IS NOT NULL THEN coalesce(b.w.insertions, 0) END AS insertions,
    CASE WHEN b.w IS NOT NULL THEN coalesce(b.w.deletions, 0) END AS deletions,
    CASE WHEN q.seq IS NULL THEN o.spec.budgets ELSE q.spec.budgets END AS budgets
FROM (
    SELECT task_id, claims AS attempt, fence, offer_claimed AS "offer", seq AS end_seq
    FROM judged
    WHERE ends_attempt(type) AND task_id NOT IN (SELECT task_id FROM refolded)
    UNION ALL
    SELECT task_id, unnest(s.ends, recursive := true) FROM refolded
) AS e
JOIN ends AS b ON b.seq = e.end_seq
JOIN changed AS n ON n.task_id = e.task_id
LEFT JOIN batch AS c ON c.seq = e.fence
LEFT JOIN specs AS q ON q.seq = e.offer
LEFT JOIN store.open_tasks AS o ON o.task_id = e.task_id
