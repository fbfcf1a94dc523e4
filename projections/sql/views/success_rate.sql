CREATE VIEW success_rate AS
SELECT
    handler,
    queue,
    count(*) AS settled,
    count(*) FILTER (WHERE state = 'completed') AS completed,
    count(*) FILTER (WHERE state = 'failed') AS failed,
    count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE state = 'expired') AS expired,
    count(*) FILTER (WHERE state = 'completed') / count(*) AS success_rate
FROM tasks
WHERE settled_at IS NOT NULL
GROUP BY ALL
ORDER BY ALL
