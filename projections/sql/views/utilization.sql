CREATE VIEW utilization AS
WITH newest AS (
    SELECT max(epoch_us(stored_at)) AS us FROM events
),

times AS (
    SELECT agent_id, host, 0 AS is_busy, began_us, least(ended_us, us) AS ended_us
    FROM store.shifts, newest
    UNION ALL
    SELECT b.agent_id, s.host, 1, b.began_us, least(b.ended_us, us)
    FROM newest, store.stints AS b
    JOIN store.shifts AS s USING (agent_id, worker_id)
),

-- A row per minute that a time touches.
split AS (
    SELECT
        *,
        60000000 * unnest(range(began_us // 60000000, (ended_us - 1) // 60000000 + 1)) AS minute_us
    FROM times
    WHERE began_us < ended_us
)

SELECT
    to_timestamp(minute_us / 1000000) AS minute,
    host,
    agent_id,
    coalesce(sum(us) FILTER (WHERE is_busy = 1), 0) / 1000000 AS busy_s,
    sum(us) FILTER (WHERE is_busy = 0) / 1000000 AS available_s,
    busy_s / available_s AS utilization
FROM (
    SELECT *, least(ended_us, minute_us + 60000000) - greatest(began_us, minute_us) AS us
    FROM split
)
GROUP BY ALL
ORDER BY minute, host, agent_id
