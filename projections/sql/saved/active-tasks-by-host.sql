-- Tasks that run now, per host, queue and handler, and when the oldest of them was claimed.
SELECT host, queue, handler, count(*) AS tasks, min(claimed_at) AS oldest_claimed_at
FROM attempts
WHERE ended_at IS NULL
GROUP BY host, queue, handler
ORDER BY host, queue, handler
