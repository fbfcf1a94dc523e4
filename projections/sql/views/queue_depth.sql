CREATE VIEW queue_depth AS
SELECT
    spec.queue AS queue,
    spec.priority AS priority,
    count(*) FILTER (WHERE state = 'held') AS held,
    count(*) FILTER (WHERE state = 'queued') AS queued,
    count(*) FILTER (WHERE state = 'claimed') AS claimed,
    count(*) FILTER (WHERE state = 'waiting') AS waiting,
    min(offered_at) FILTER (WHERE state = 'queued') AS oldest_queued_at
FROM store.open_tasks
GROUP BY ALL
