CREATE VIEW agents AS
SELECT
    agent_id,
    host,
    CASE
        WHEN end_state IS NOT NULL THEN end_state
        WHEN draining_at IS NOT NULL THEN 'draining'
        WHEN strained_at IS NOT NULL THEN 'strained'
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
    labels,
    CASE WHEN end_state IS NULL THEN strained_at END AS strained_at,
    CASE WHEN end_state IS NULL THEN strains END AS strains,
    reserve_high
FROM store.known_agents
