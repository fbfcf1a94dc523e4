-- The rules, event by event in log order, for each task that the batch speaks of: what it comes to, which attempts
-- ended, and which events were not allowed. Everything else follows from the allowed events in `change_tasks`.
CREATE OR REPLACE TEMP TABLE folded AS
WITH histories AS (
    SELECT
        thing_id AS task_id,
        list({
            'seq': seq,
            'type': CASE WHEN problem IS NULL THEN j.type END,
            'offer': j.offer,
            'over': j.over,
            'fence': j.fence,
            'attempt': coalesce(j.attempt, 1),
            'attempts': j.attempts
        } ORDER BY seq) AS history
    FROM batch
    WHERE kind = 'task'
    GROUP BY thing_id
),

settled AS (
    SELECT task_id FROM store.settled_tasks WHERE task_id IN (SELECT task_id FROM histories)
)

SELECT
    h.task_id,
    list_reduce(
        h.history,
        lambda s, e: evolve(s, e),
        {
            'state': CASE WHEN s.task_id IS NULL THEN coalesce(o.state, 'absent') ELSE 'settled' END,
            'offer': o.offer,
            'fence': o.fence,
            'attempts': coalesce(o.attempts, 0)::HUGEINT,
            'is_cancel_requested': coalesce(o.is_cancel_requested, false),
            'ends': []::STRUCT(attempt HUGEINT, fence BIGINT, "offer" BIGINT, end_seq BIGINT)[],
            'violations': []::BIGINT[]
        }
    ) AS s
FROM histories AS h
LEFT JOIN store.open_tasks AS o USING (task_id)
LEFT JOIN settled AS s USING (task_id)
