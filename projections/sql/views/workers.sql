CREATE VIEW workers AS
SELECT
    w.agent_id,
    w.worker_id,
    coalesce(w.host, a.host) AS host,
    w.pid,
    CASE
        WHEN w.exited_at IS NOT NULL THEN 'exited'
        WHEN a.end_state IS NOT NULL THEN 'lost'
        ELSE 'running'
    END AS state,
    w.spawned_at,
    w.exited_at,
    w.exit_code,
    w.signal,
    w.refused,
    w.exit_reason
FROM store.known_workers AS w
LEFT JOIN store.known_agents AS a USING (agent_id)
