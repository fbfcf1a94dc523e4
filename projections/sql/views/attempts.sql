CREATE VIEW attempts AS
SELECT * FROM store.ended_attempts
UNION ALL BY NAME
SELECT
    task_id,
    TRY_CAST(attempts AS BIGINT) AS attempt,
    fence,
    offer,
    spec.handler AS handler,
    spec.queue AS queue,
    spec.priority AS priority,
    lease.host AS host,
    lease.agent_id AS agent_id,
    lease.worker_id AS worker_id,
    offered_at AS queued_at,
    lease.claimed_at AS claimed_at
FROM store.open_tasks
WHERE state = 'claimed'
