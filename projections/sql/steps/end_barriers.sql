-- The first end behind the beginning counts: the twin of `take_barrier` in bus/core/joins.py.
CREATE OR REPLACE TEMP TABLE ended AS
SELECT
    *,
    json_transform(
        text,
        '{
            "expected": "BIGINT", "settled": "BIGINT", "succeeded": "BIGINT", "outcomes": ["BIGINT"],
            "why": "VARCHAR", "error": "VARCHAR", "reason": "VARCHAR", "actor": "VARCHAR"
        }'
    ) AS e
FROM (
    SELECT b.thing_id AS barrier_id, b.seq, b.stored_at, substr(b.j.type, 9) AS state, b.text
    FROM batch AS b
    JOIN store.known_barriers AS k ON k.barrier_id = b.thing_id
    WHERE b.kind = 'barrier'
        AND b.problem IS NULL
        AND b.j.type IN ('barrier.released', 'barrier.abandoned')
        AND k.end_seq IS NULL
        AND b.seq > k.opened_seq
    QUALIFY row_number() OVER (PARTITION BY b.thing_id ORDER BY b.seq) = 1
)
