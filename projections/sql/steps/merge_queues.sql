-- The twin of `evolve_queue` in bus/core/queues.py: the last event says how a queue stands.
MERGE INTO queues AS q
USING (
    SELECT
        queue,
        max(seq) AS seq,
        arg_max(j.type = 'queue.paused', seq) AS is_paused,
        arg_max(stored_at, seq) FILTER (WHERE j.type = 'queue.paused') AS paused_at,
        arg_max(stored_at, seq) FILTER (WHERE j.type = 'queue.resumed') AS resumed_at,
        arg_max({'actor': j.actor, 'reason': j.reason}, seq) AS word
    FROM batch
    WHERE kind = 'queue' AND problem IS NULL AND j.type IN ('queue.paused', 'queue.resumed')
    GROUP BY queue
) AS n ON q.queue = n.queue
WHEN MATCHED THEN UPDATE SET
    is_paused = n.is_paused,
    paused_at = coalesce(n.paused_at, q.paused_at),
    resumed_at = coalesce(n.resumed_at, q.resumed_at),
    actor = n.word.actor,
    reason = n.word.reason,
    seq = n.seq
WHEN NOT MATCHED THEN INSERT (queue, is_paused, paused_at, resumed_at, actor, reason, seq)
VALUES (n.queue, n.is_paused, n.paused_at, n.resumed_at, n.word.actor, n.word.reason, n.seq)
