-- How attempts ended in the last hour, per host; the hour ends with the newest event.
SELECT host, outcome, count(*) AS attempts, quantile_cont(date_diff('millisecond', claimed_at, ended_at), 0.5) / 1000 AS median_s
FROM attempts
WHERE ended_at > (SELECT max(stored_at) FROM events) - INTERVAL 1 HOUR
GROUP BY host, outcome
ORDER BY host, outcome
