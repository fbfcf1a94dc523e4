CREATE VIEW queue_history AS
WITH newest AS (
    SELECT max(epoch_us(stored_at)) AS us FROM events
),

-- What changes within a minute. The running total is what holds when it ends.
changes AS (
    SELECT queue, began_us // 60000000 AS minute, 1 AS depth, 0 AS busy, 0 AS workers
    FROM store.waits
    UNION ALL
    SELECT queue, ended_us // 60000000, -1, 0, 0
    FROM store.waits
    UNION ALL
    SELECT unnest(queues), began_us // 60000000, 0, 0, 1
    FROM store.shifts
    UNION ALL
    SELECT unnest(queues), served_us // 60000000, 0, 0, -1
    FROM store.shifts
    UNION ALL
    SELECT unnest(queues), b.began_us // 60000000, 0, 1, 0
    FROM store.stints AS b
    JOIN store.shifts AS s USING (agent_id, worker_id)
    WHERE b.began_us < s.served_us
    UNION ALL
    SELECT unnest(queues), least(b.ended_us, s.served_us) // 60000000, 0, -1, 0
    FROM store.stints AS b
    JOIN store.shifts AS s USING (agent_id, worker_id)
    WHERE b.began_us < s.served_us
),

-- From a queue's first offer to the newest event, without a gap.
minutes AS (
    SELECT queue, unnest(range(min(began_us) // 60000000, any_value(us) // 60000000 + 1)) AS minute
    FROM store.waits, newest
    GROUP BY queue
),

totals AS (
    SELECT
        queue,
        minute,
        sum(depth) OVER history AS depth,
        sum(busy) OVER history AS busy,
        sum(workers) OVER history AS workers
    FROM (
        SELECT queue, minute, sum(depth) AS depth, sum(busy) AS busy, sum(workers) AS workers
        FROM (FROM changes UNION ALL SELECT queue, minute, 0, 0, 0 FROM minutes)
        GROUP BY queue, minute
    )
    WINDOW history AS (PARTITION BY queue ORDER BY minute)
),

-- Only an offer that outlived all earlier ones can be the oldest at some time.
oldest AS (
    SELECT queue, began_us, ended_us
    FROM store.waits
    QUALIFY ended_us > coalesce(max(ended_us) OVER (
        PARTITION BY queue
        ORDER BY began_us, ended_us DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0)
)

SELECT
    to_timestamp(60 * m.minute) AS minute,
    m.queue,
    t.depth::BIGINT AS depth,
    CASE WHEN o.began_us < m.end_us THEN (least(m.end_us, m.us) - o.began_us) / 1000000 END AS oldest_wait_s,
    t.busy::BIGINT AS busy,
    t.workers::BIGINT AS workers
FROM (SELECT *, 60000000 * (minute + 1) AS end_us FROM minutes, newest) AS m
JOIN totals AS t ON t.queue = m.queue AND t.minute = m.minute
ASOF LEFT JOIN oldest AS o ON o.queue = m.queue AND m.end_us <= o.ended_us
ORDER BY m.minute, m.queue
