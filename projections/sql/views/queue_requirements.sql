CREATE VIEW queue_requirements AS
SELECT
    spec.queue AS queue,
    spec.priority AS priority,
    coalesce(spec.requires, MAP {}::MAP(VARCHAR, VARCHAR)) AS requires,
    lane AS offered_on,
    count(*) AS tasks,
    count(*) FILTER (WHERE state = 'queued') AS queued,
    count(*) FILTER (WHERE state = 'claimed') AS claimed,
    min(offered_at) FILTER (WHERE state = 'queued') AS oldest_queued_at
FROM store.open_tasks
GROUP BY ALL
