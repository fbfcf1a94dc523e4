-- Rare, so they are read from the events as they are.
CREATE VIEW queue_scalings AS
SELECT
    seq,
    stored_at,
    queue,
    raw ->> '$.agent_id' AS agent_id,
    raw ->> '$.host' AS host,
    TRY_CAST(raw ->> '$.workers_before' AS BIGINT) AS workers_before,
    TRY_CAST(raw ->> '$.workers_after' AS BIGINT) AS workers_after,
    coalesce(TRY_CAST(raw ->> '$.waiting' AS BIGINT), 0) AS waiting,
    coalesce(TRY_CAST(raw ->> '$.oldest_wait_ms' AS BIGINT), 0) AS oldest_wait_ms,
    reason
FROM events
WHERE type = 'queue.scaled'
    AND problem IS NULL
    AND split_part(subject, '.', 3) = 'queue'
