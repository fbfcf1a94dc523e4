-- A barrier begins with an event of its own, or with the completion of a task that fans out. The first beginning counts.
CREATE OR REPLACE TEMP TABLE opened AS
SELECT
    *,
    json_transform(
        fan_out,
        '{
            "count": "BIGINT", "members": [{"task_id": "VARCHAR"}], "members_ref": "JSON", "policy": "VARCHAR",
            "quorum": "BIGINT", "stragglers": "VARCHAR", "deadline_ms": "BIGINT", "then": {"task_id": "VARCHAR"}
        }'
    ) AS plan
FROM (
    SELECT
        thing_id AS barrier_id,
        kind = 'task' AS is_by_task,
        CASE WHEN kind = 'task' THEN thing_id ELSE text ->> '$.parent_id' END AS parent_id,
        seq,
        stored_at,
        j.fan_out AS fan_out
    FROM batch
    WHERE problem IS NULL
        AND json_type(j.fan_out) = 'OBJECT'
        AND j.type = CASE kind WHEN 'task' THEN 'task.completed' WHEN 'barrier' THEN 'barrier.opened' END
        AND seq NOT IN (SELECT unnest(s.violations) FROM refolded)
        AND thing_id NOT IN (SELECT barrier_id FROM store.known_barriers)
    QUALIFY row_number() OVER (PARTITION BY thing_id ORDER BY seq) = 1
)
