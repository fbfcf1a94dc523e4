-- The times in which an offer stood open: from a `queued` event to whatever happened to its task next.
CREATE VIEW store.waits AS
SELECT
    task_id,
    queue,
    began_us,
    greatest(began_us, coalesce(ended_us, 253402300799999999)) AS ended_us
FROM (
    SELECT
        task_id,
        queue,
        type,
        epoch_us(stored_at) AS began_us,
        lead(epoch_us(stored_at)) OVER (PARTITION BY task_id ORDER BY seq) AS ended_us
    FROM events
    WHERE task_id IS NOT NULL AND queue IS NOT NULL AND problem IS NULL AND NOT is_violation
)
WHERE type = 'task.queued'
