-- The first word about a queue counts, as in bus/core/queues.py. Runs before the batch is parsed, which asks for it.
INSERT INTO derived_queues BY NAME
SELECT word[4] AS queue, arg_min(j.queue, seq) AS base, arg_min(j.requires, seq) AS requires, min(seq) AS seq
FROM (
    SELECT
        seq,
        word,
        TRY(json_transform(
            text, '{"type": "VARCHAR", "queue": "VARCHAR", "requires": "MAP(VARCHAR, VARCHAR)"}'
        )) AS j
    FROM (
        SELECT seq, text, string_split(subject, '.') AS word
        FROM incoming
        WHERE problem = '' AND suffix(subject, '.derived') AND seq > (SELECT checkpoint FROM store.meta)
    )
    WHERE word[1] = 'fleetlog' AND word[3] = 'queue' AND len(word) = 5
)
WHERE j.type = 'queue.derived'
    AND j.queue IS NOT NULL
    AND j.requires IS NOT NULL
    AND word[4] NOT IN (SELECT queue FROM derived_queues)
GROUP BY word[4]
