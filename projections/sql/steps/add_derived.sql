-- The first word about a queue counts, as in bus/core/queues.py.
INSERT INTO derived_queues BY NAME
SELECT
    thing_id AS queue,
    arg_min(j.queue, seq) AS base,
    arg_min(j.requires, seq) AS requires,
    min(seq) AS seq
FROM batch
WHERE kind = 'queue'
    AND problem IS NULL
    AND j.type = 'queue.derived'
    AND j.queue IS NOT NULL
    AND j.requires IS NOT NULL
    AND thing_id NOT IN (SELECT queue FROM derived_queues)
GROUP BY thing_id
