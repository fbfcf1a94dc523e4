CREATE VIEW barriers AS
WITH counted AS (
    SELECT
        barrier_id,
        count(*) AS settled,
        count(*) FILTER (WHERE m.state = 'completed') AS succeeded
    FROM barrier_members AS m
    JOIN store.known_barriers AS k USING (barrier_id)
    WHERE k.settled IS NULL
        AND m.settled_seq < coalesce(k.end_seq, m.settled_seq + 1)
    GROUP BY barrier_id
)

SELECT
    barrier_id,
    coalesce(k.end_state, 'open') AS state,
    k.policy,
    k.quorum,
    k.stragglers,
    k.expected,
    coalesce(k.settled, c.settled, 0) AS settled,
    coalesce(k.succeeded, c.succeeded, 0) AS succeeded,
    k.opened_at,
    CASE WHEN k.end_state = 'released' THEN k.ended_at END AS released_at,
    k.ended_at,
    -- least() passes NULLs over, and without a deadline there is none.
    CASE
        WHEN k.deadline_ms IS NOT NULL
            THEN make_timestamp(least(epoch_us(k.opened_at) + 1000 * k.deadline_ms, 253402300799999999))::TIMESTAMPTZ
    END AS deadline_at,
    k.continuation_id,
    k.parent_id,
    k.why,
    k.reason,
    k.actor
FROM store.known_barriers AS k
LEFT JOIN counted AS c USING (barrier_id)
