-- What the latest attempt's end said of each allowance of each credential.
MERGE INTO store.allowances AS a
USING (
    SELECT
        said.credential AS credential,
        said."window" AS "window",
        arg_max(said.utilization, (seq, place)) AS utilization,
        arg_max({'at': said.resets_at}, (seq, place)).at AS resets_at,
        arg_max(stored_at, (seq, place)) AS reported_at,
        max(seq) AS seq
    FROM (
        SELECT
            seq,
            stored_at,
            unnest(said) AS said,
            unnest(range(len(said))) AS place
        FROM (
            SELECT
                seq,
                stored_at,
                TRY(json_transform(
                    j.allowances,
                    '[{
                        "credential": "VARCHAR", "window": "VARCHAR", "utilization": "DOUBLE",
                        "resets_at": "TIMESTAMPTZ"
                    }]'
                )) AS said
            FROM batch
            WHERE kind = 'task'
                AND problem IS NULL
                AND j.allowances IS NOT NULL
                AND seq NOT IN (SELECT unnest(s.violations) FROM refolded)
        )
    )
    WHERE said.credential IS NOT NULL AND said."window" IS NOT NULL
    GROUP BY ALL
) AS n ON a.credential = n.credential AND a."window" = n."window"
WHEN MATCHED THEN UPDATE SET
    utilization = n.utilization,
    resets_at = n.resets_at,
    reported_at = n.reported_at,
    seq = n.seq
WHEN NOT MATCHED THEN INSERT (credential, "window", utilization, resets_at, reported_at, seq)
VALUES (n.credential, n."window", n.utilization, n.resets_at, n.reported_at, n.seq)
