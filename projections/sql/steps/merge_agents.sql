-- The first event of each sort wins, of strains the last, so that the rows are the same however the log is cut into
-- batches.
MERGE INTO store.known_agents AS a
USING (
    SELECT
        thing_id AS agent_id,
        arg_min(w, seq) FILTER (WHERE j.type = 'agent.started') AS started,
        coalesce(
            arg_min(w.labels, seq) FILTER (WHERE j.type = 'agent.started'),
            MAP {}::MAP(VARCHAR, VARCHAR)
        ) AS labels,
        arg_min(stored_at, seq) FILTER (WHERE j.type = 'agent.started') AS started_at,
        arg_min(stored_at, seq) FILTER (WHERE j.type = 'agent.draining') AS draining_at,
        arg_min(stored_at, seq) FILTER (WHERE j.type IN ('agent.stopped', 'agent.lost')) AS ended_at,
        substr(arg_min(j.type, seq) FILTER (WHERE j.type IN ('agent.stopped', 'agent.lost')), 7)
            AS end_state,
        arg_max(
            {'at': CASE WHEN j.type = 'agent.strained' THEN stored_at END, 'strains': w.strains}, seq
        ) FILTER (WHERE j.type IN ('agent.strained', 'agent.recovered')) AS strain
    FROM (
        SELECT
            *,
            TRY(json_transform(
                text,
                '{
                    "host": "VARCHAR", "pid": "BIGINT", "version": "VARCHAR", "queues": ["VARCHAR"],
                    "workers": "BIGINT", "concurrency": "BIGINT", "reserve_high": "BIGINT",
                    "labels": "MAP(VARCHAR, VARCHAR)",
                    "strains": [{"resource": "VARCHAR", "left": "BIGINT", "floor": "BIGINT", "where": "VARCHAR"}]
                }'
            )) AS w
        FROM batch
        WHERE kind = 'agent' AND problem IS NULL AND starts_with(j.type, 'agent.')
    )
    GROUP BY thing_id
) AS n ON a.agent_id = n.agent_id
WHEN MATCHED THEN UPDATE SET
    host = CASE WHEN a.started_at IS NULL THEN n.started.host ELSE a.host END,
    pid = CASE WHEN a.started_at IS NULL THEN n.started.pid ELSE a.pid END,
    version = CASE WHEN a.started_at IS NULL THEN n.started.version ELSE a.version END,
    queues = CASE WHEN a.started_at IS NULL THEN n.started.queues ELSE a.queues END,
    workers = CASE WHEN a.started_at IS NULL THEN n.started.workers ELSE a.workers END,
    concurrency = CASE WHEN a.started_at IS NULL THEN n.started.concurrency ELSE a.concurrency END,
    reserve_high = CASE
        WHEN a.started_at IS NULL AND n.started_at IS NOT NULL THEN coalesce(n.started.reserve_high, 0)
        ELSE a.reserve_high
    END,
    labels = CASE WHEN a.started_at IS NULL THEN n.labels ELSE a.labels END,
    started_at = coalesce(a.started_at, n.started_at),
    draining_at = coalesce(a.draining_at, n.draining_at),
    ended_at = coalesce(a.ended_at, n.ended_at),
    end_state = coalesce(a.end_state, n.end_state),
    strained_at = CASE WHEN n.strain IS NULL THEN a.strained_at ELSE n.strain.at END,
    strains = CASE WHEN n.strain IS NULL THEN a.strains ELSE n.strain.strains END
WHEN NOT MATCHED THEN INSERT (
    agent_id, host, pid, version, queues, workers, concurrency, labels, started_at, draining_at, ended_at,
    end_state, strained_at, strains, reserve_high
) VALUES (
    n.agent_id, n.started.host, n.started.pid, n.started.version, n.started.queues, n.started.workers,
    n.started.concurrency, n.labels, n.started_at, n.draining_at, n.ended_at, n.end_state,
    n.strain.at, n.strain.strains, CASE WHEN n.started_at IS NOT NULL THEN coalesce(n.started.reserve_high, 0) END
)
