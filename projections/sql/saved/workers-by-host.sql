-- Workers that are running now, per host, and how many of them hold an attempt.
SELECT
    host,
    count(*) AS workers,
    count(*) FILTER (WHERE (agent_id, worker_id) IN (
        SELECT (agent_id, worker_id) FROM attempts WHERE ended_at IS NULL
    )) AS busy,
    count(DISTINCT agent_id) AS agents
FROM workers
WHERE state = 'running'
GROUP BY host
ORDER BY host
