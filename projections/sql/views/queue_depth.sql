CREATE VIEW queue_depth AS
SELECT
    spec.queue AS queue,
    spec.priority AS priority,
    count(*) AS tasks,
    count(*) FILTER (WHERE state = 'held') AS held,
    count(*) FILTER (WHERE state = 'queued') AS queued,
    count(*) FILTER (WHERE state = 'claimed') AS claimed,
    count(*) FILTER (WHERE state = 'waiting') AS waiting,
    min(offered_at) FILTER (WHERE state = 'queued') AS oldest_queued_at,
    ((SELECT max(epoch_us(stored_at)) FROM events) - epoch_us(oldest_queued_at)) / 1000000 AS oldest_wait_s
FROM store.open_tasks
GROUP BY spec.queue, spec.priority
