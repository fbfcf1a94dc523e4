CREATE VIEW agents AS
SELECT
    agent_id,
    host,
    CASE
        WHEN end_state IS NOT NULL THEN end_state
        WHEN draining_at IS NOT NULL THEN 'draining'
        ELSE 'running'
    END AS state,
    started_at,
    draining_at,
    ended_at,
    pid,
    version,
    queues,
    workers,
    concurrency,
    labels
FROM store.known_agents
