-- Minutes at whose end a queue had waiting tasks while workers that serve it were idle.
SELECT minute, queue, depth, oldest_wait_s, workers - busy AS idle, workers
FROM queue_history
WHERE depth > 0 AND busy < workers
ORDER BY minute, queue
