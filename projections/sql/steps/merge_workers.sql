-- The first event of each sort wins, so that the rows are the same however the log is cut into batches.
MERGE INTO store.known_workers AS w
USING (
    SELECT
        thing_id AS agent_id,
        worker_id,
        arg_min(j.host, seq) AS host,
        arg_min(w.pid, seq) AS pid,
        arg_min(stored_at, seq) FILTER (WHERE j.type = 'worker.spawned') AS spawned_at,
        arg_min({'at': stored_at, 'exit_code': j.exit_code, 'signal': w.signal, 'reason': j.reason}, seq)
            FILTER (WHERE j.type = 'worker.exited') AS exited,
        count(*) FILTER (WHERE j.type = 'worker.refused') AS refused
    FROM (
        SELECT *, TRY(json_transform(text, '{"pid": "BIGINT", "signal": "BIGINT"}')) AS w
        FROM batch
        WHERE kind = 'worker' AND problem IS NULL AND starts_with(j.type, 'worker.')
    )
    GROUP BY ALL
) AS n ON w.agent_id = n.agent_id AND w.worker_id = n.worker_id
WHEN MATCHED THEN UPDATE SET
    host = coalesce(w.host, n.host),
    pid = coalesce(w.pid, n.pid),
    spawned_at = coalesce(w.spawned_at, n.spawned_at),
    exited_at = coalesce(w.exited_at, n.exited.at),
    exit_code = CASE WHEN w.exited_at IS NULL THEN n.exited.exit_code ELSE w.exit_code END,
    signal = CASE WHEN w.exited_at IS NULL THEN n.exited.signal ELSE w.signal END,
    exit_reason = CASE WHEN w.exited_at IS NULL THEN n.exited.reason ELSE w.exit_reason END,
    refused = w.refused + n.refused
WHEN NOT MATCHED THEN INSERT (
    agent_id, worker_id, host, pid, spawned_at, exited_at, exit_code, signal, exit_reason, refused
) VALUES (
    n.agent_id, n.worker_id, n.host, n.pid, n.spawned_at, n.exited.at, n.exited.exit_code,
    n.exited.signal, n.exited.reason, n.refused
)
