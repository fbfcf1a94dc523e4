INSERT INTO heartbeats BY NAME
SELECT
    r.beat.agent_id AS agent_id,
    r.beat.host AS host,
    r.stored_at,
    coalesce(r.beat.state, 'running') AS state,
    r.w.worker_id AS worker_id,
    r.w.pid AS pid,
    r.w.state AS worker_state,
    r.w.task_id AS task_id,
    r.w.attempt AS attempt,
    CASE WHEN r.w IS NOT NULL THEN coalesce(r.w.running, 0) END AS running,
    r.w.output_at AS output_at,
    CASE WHEN r.w.usage IS NOT NULL THEN coalesce(r.w.usage.input_tokens, 0) END AS input_tokens,
    CASE WHEN r.w.usage IS NOT NULL THEN coalesce(r.w.usage.output_tokens, 0) END AS output_tokens,
    CASE WHEN r.w.usage IS NOT NULL THEN coalesce(r.w.usage.cost_micro_usd, 0) END AS cost_micro_usd,
    r.w.rss_bytes AS rss_bytes,
    r.w.cpu_s AS cpu_s,
    CASE WHEN r.w IS NOT NULL THEN coalesce(r.w.crashes, 0) END AS crashes
FROM (
    SELECT b.stored_at, b.beat, unnest(CASE WHEN len(b.beat.workers) > 0 THEN b.beat.workers ELSE [NULL] END) AS w
    FROM (
        SELECT unnest(json_transform(
            ?,
            '[{
                "stored_at": "TIMESTAMPTZ",
                "beat": {
                    "agent_id": "VARCHAR", "host": "VARCHAR", "state": "VARCHAR",
                    "workers": [{
                        "worker_id": "VARCHAR", "pid": "BIGINT", "state": "VARCHAR", "running": "BIGINT",
                        "task_id": "VARCHAR", "attempt": "BIGINT", "output_at": "TIMESTAMPTZ",
                        "usage": {
                            "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cost_micro_usd": "BIGINT"
                        },
                        "rss_bytes": "BIGINT", "cpu_s": "DOUBLE", "crashes": "BIGINT"
                    }]
                }
            }]'
        )) AS b
    )
) AS r
