CREATE VIEW speedup AS
SELECT
    *,
    busy_s / nullif(wall_s, 0) AS speedup,
    busy_s / nullif(wall_s, 0) / nullif(workers, 0) AS efficiency
FROM (
    SELECT
        count(*) AS attempts,
        count(DISTINCT (agent_id, worker_id)) AS workers,
        count(DISTINCT host) AS hosts,
        min(claimed_at) AS first_claim_at,
        max(ended_at) AS last_end_at,
        sum(epoch_us(ended_at) - epoch_us(claimed_at)) / 1000000 AS busy_s,
        (epoch_us(max(ended_at)) - epoch_us(min(claimed_at))) / 1000000 AS wall_s
    FROM store.ended_attempts
)
