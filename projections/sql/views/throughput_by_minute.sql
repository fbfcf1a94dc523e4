CREATE VIEW throughput_by_minute AS
SELECT
    to_timestamp(minute_us / 1000000) AS minute,
    queue,
    count(*) FILTER (WHERE what = 'submitted') AS submitted,
    count(*) FILTER (WHERE what = 'claimed') AS claimed,
    count(*) FILTER (WHERE what NOT IN ('submitted', 'claimed')) AS settled,
    count(*) FILTER (WHERE what = 'completed') AS completed,
    count(*) FILTER (WHERE what = 'failed') AS failed,
    count(*) FILTER (WHERE what = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE what = 'expired') AS expired
FROM (
    SELECT epoch_us(submitted_at) // 60000000 * 60000000 AS minute_us, queue, 'submitted' AS what
    FROM tasks
    WHERE submitted_at IS NOT NULL
    UNION ALL
    SELECT epoch_us(claimed_at) // 60000000 * 60000000, queue, 'claimed'
    FROM attempts
    UNION ALL
    SELECT epoch_us(settled_at) // 60000000 * 60000000, queue, state
    FROM tasks
    WHERE settled_at IS NOT NULL
)
GROUP BY ALL
ORDER BY ALL
