-- What the batch says of budgets: their own events, and the first events of tasks with a budget for their tree.
CREATE OR REPLACE TEMP TABLE said AS
SELECT
    token,
    seq,
    type,
    stored_at,
    task_id,
    w.key AS key,
    type = 'budget.set' AND coalesce(w.is_reset, false) AS is_reset,
    w.budget AS budget,
    actor,
    reason,
    0::HUGEINT AS tokens,
    0::HUGEINT AS cost_micro_usd,
    0::HUGEINT AS wall_ms
FROM (
    SELECT
        thing_id AS token,
        seq,
        coalesce(j.type, '') AS type,
        stored_at,
        NULL::VARCHAR AS task_id,
        j.actor AS actor,
        j.reason AS reason,
        json_transform(
            CASE WHEN problem IS NULL THEN text END,
            '{
                "key": "VARCHAR", "is_reset": "BOOLEAN",
                "budget": {
                    "tokens": "BIGINT", "cost_micro_usd": "BIGINT", "wall_ms": "BIGINT", "action": "VARCHAR"
                }
            }'
        ) AS w
    FROM batch
    WHERE kind = 'budget'
    UNION ALL
    SELECT
        key_token(thing_id) AS token,
        seq,
        'root' AS type,
        stored_at,
        thing_id AS task_id,
        j.actor AS actor,
        j.reason AS reason,
        {'key': thing_id, 'is_reset': false, 'budget': budget} AS w
    FROM (
        SELECT b.*, s.budget AS budget
        FROM batch AS b
        JOIN specs AS s USING (seq)
        WHERE kind = 'task'
            AND j.type IN ('task.held', 'task.queued')
            AND thing_id IN (SELECT task_id FROM judged WHERE state_stored = 'absent')
            AND seq NOT IN (SELECT unnest(s.violations) FROM refolded)
        QUALIFY row_number() OVER (PARTITION BY thing_id ORDER BY seq) = 1
    )
    WHERE budget IS NOT NULL
)
