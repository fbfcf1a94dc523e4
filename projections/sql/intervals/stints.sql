-- The times in which a worker held at least one attempt, within its shift; they never overlap.
CREATE VIEW store.stints AS
SELECT agent_id, worker_id, min(began_us) AS began_us, max(ended_us) AS ended_us
FROM (
    SELECT
        *,
        count(*) FILTER (WHERE is_apart)
            OVER (PARTITION BY agent_id, worker_id ORDER BY began_us, ended_us) AS number
    FROM (
        SELECT
            *,
            began_us > max(ended_us) OVER (
                PARTITION BY agent_id, worker_id
                ORDER BY began_us, ended_us
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS is_apart
        FROM (
            SELECT
                agent_id,
                worker_id,
                greatest(epoch_us(t.claimed_at), s.began_us) AS began_us,
                least(coalesce(epoch_us(t.ended_at), 253402300799999999), s.ended_us) AS ended_us
            FROM attempts AS t
            JOIN store.shifts AS s USING (agent_id, worker_id)
        )
        WHERE began_us < ended_us
    )
)
GROUP BY agent_id, worker_id, number
