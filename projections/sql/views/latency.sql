CREATE VIEW latency AS
SELECT
    queue,
    count(*) AS attempts,
    quantile_cont(wait_s, 0.5) AS wait_p50_s,
    quantile_cont(wait_s, 0.95) AS wait_p95_s,
    quantile_cont(wait_s, 0.99) AS wait_p99_s,
    quantile_cont(run_s, 0.5) AS run_p50_s,
    quantile_cont(run_s, 0.95) AS run_p95_s,
    quantile_cont(run_s, 0.99) AS run_p99_s
FROM (
    SELECT
        queue,
        (epoch_us(claimed_at) - epoch_us(queued_at)) / 1000000 AS wait_s,
        (epoch_us(ended_at) - epoch_us(claimed_at)) / 1000000 AS run_s
    FROM attempts
)
GROUP BY ALL
ORDER BY ALL
