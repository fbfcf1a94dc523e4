DELETE FROM heartbeats
WHERE stored_at < (SELECT max(stored_at) FROM heartbeats) - to_seconds(?)
