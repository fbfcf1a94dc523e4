INSERT INTO events BY NAME
SELECT
    b.seq,
    b.stored_at,
    b.j.occurred_at AS occurred_at,
    CASE
        WHEN b.problem IS NULL THEN b.j.type
        WHEN NOT json_valid(b.text) THEN NULL
        WHEN json_type(b.text, '$.type') = 'VARCHAR' THEN b.text ->> '$.type'
    END AS type,
    b.subject,
    CASE WHEN b.kind = 'task' THEN b.thing_id ELSE b.j.task_id END AS task_id,
    b.queue,
    b.priority,
    coalesce(b.j.attempt, CASE WHEN b.j.fence IS NOT NULL THEN b.j.attempts END) AS attempt,
    CASE WHEN b.kind IN ('agent', 'worker') THEN b.thing_id ELSE b.j.agent_id END AS agent_id,
    coalesce(b.worker_id, b.j.worker_id) AS worker_id,
    CASE WHEN b.kind = 'barrier' THEN b.thing_id END AS barrier_id,
    b.j.host AS host,
    CASE WHEN b.j.type = 'task.claimed' THEN b.seq ELSE b.j.fence END AS fence,
    b.j.error_class AS error_class,
    b.j.id AS event_id,
    b.j.cause AS cause,
    b.j.actor AS actor,
    b.j.reason AS reason,
    b.problem IS NULL AND b.seq IN (SELECT unnest(s.violations) FROM refolded) AS is_violation,
    b.problem,
    b.text AS raw,
    b.bytes AS raw_bytes
FROM batch AS b
