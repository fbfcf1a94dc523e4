-- The last setting counts. Admissions are too many to be counted from the events each time that someone asks.
MERGE INTO store.known_limits AS k
USING (
    SELECT
        w.key AS key,
        arg_max(
            {
                'concurrency': w.concurrency,
                'rate': w.rate,
                'per_ms': coalesce(w.per_ms, 1000),
                'burst': w.burst,
                'set_at': stored_at,
                'actor': actor,
                'reason': reason
            },
            seq
        ) FILTER (WHERE type = 'limit.set') AS setting,
        coalesce(sum(w.tasks) FILTER (WHERE type = 'limit.admitted'), 0) AS admissions,
        arg_max(stored_at, seq) FILTER (WHERE type = 'limit.admitted') AS admitted_at
    FROM (
        SELECT
            seq,
            stored_at,
            j.type AS type,
            j.actor AS actor,
            j.reason AS reason,
            struct_update(
                json_transform(
                    text,
                    '{
                        "key": "VARCHAR", "concurrency": "BIGINT", "rate": "BIGINT", "per_ms": "BIGINT",
                        "burst": "BIGINT"
                    }'
                ),
                tasks := json_array_length(text, '$.tasks')
            ) AS w
        FROM batch
        WHERE kind = 'limit' AND problem IS NULL AND j.type IN ('limit.set', 'limit.admitted')
    )
    GROUP BY w.key
) AS n ON k.key = n.key
WHEN MATCHED THEN UPDATE SET
    setting = coalesce(n.setting, k.setting),
    admissions = k.admissions + n.admissions,
    admitted_at = coalesce(n.admitted_at, k.admitted_at)
WHEN NOT MATCHED THEN INSERT (key, setting, admissions, admitted_at)
VALUES (n.key, n.setting, n.admissions, n.admitted_at)
