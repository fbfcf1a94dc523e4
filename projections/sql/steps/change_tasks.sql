-- The new row of each task that the batch changed; a settled task never changes again.
CREATE OR REPLACE TEMP TABLE changed AS
WITH allowed AS (
    SELECT seq, thing_id, stored_at, j.type AS type, j
    FROM batch
    WHERE kind = 'task'
        AND problem IS NULL
        AND seq NOT IN (SELECT unnest(s.violations) FROM refolded)
),

gains AS (
    SELECT
        thing_id AS task_id,
        max(seq) FILTER (WHERE type IN ('task.held', 'task.queued')) AS spec_seq,
        arg_min(coalesce(CASE WHEN type = 'task.queued' THEN j.submitted_at END, stored_at), seq)
            FILTER (WHERE type IN ('task.held', 'task.queued')) AS submitted_at,
        arg_min(stored_at, seq) FILTER (WHERE type = 'task.queued') AS queued_at,
        arg_min(stored_at, seq) FILTER (WHERE type = 'task.claimed') AS started_at,
        arg_max(
            -- Bounded, because a foreign writer's delay may reach beyond the end of time.
            least(
                epoch_us(stored_at)
                + 1000 * least(
                    greatest(
                        coalesce(
                            CASE WHEN type = 'task.held' THEN TRY_CAST(j.spec ->> '$.delay_ms' AS BIGINT) END,
                            j.delay_ms,
                            0
                        ),
                        0
                    ),
                    1000000000000000
                ),
                253402300799999999
            ),
            seq
        ) FILTER (WHERE type IN ('task.held', 'task.retried', 'task.returned')) AS due_us,
        -- In a struct, as arg_max passes over what is NULL.
        arg_max({
            'asked': CASE WHEN type = 'task.returned' AND j.error_class = 'needs_input' THEN {
                'question': coalesce(j.question ->> '$.text', j.error),
                'choices': coalesce(from_json(j.question -> '$.choices', '["VARCHAR"]'), []),
                'asked_at': stored_at
            } END
        }, seq) FILTER (WHERE type IN ('task.retried', 'task.returned')) AS word,
        max(seq) FILTER (WHERE type IN ('task.completed', 'task.failed', 'task.cancelled', 'task.expired'))
            AS settle_seq,
        -- A log may begin with a later offer of a task: the counts so far are that event's.
        arg_min(CASE WHEN type = 'task.queued' THEN coalesce(j.failures, 0) ELSE 0 END, seq)
            AS failures_before,
        arg_min(CASE WHEN type = 'task.queued' THEN coalesce(j.losses, 0) ELSE 0 END, seq)
            AS losses_before,
        count(*) FILTER (
            WHERE type = 'task.retried'
                OR (type = 'task.failed' AND j.fence IS NOT NULL AND j.error_class <> 'lost')
        ) AS failures,
        count(*) FILTER (
            WHERE (type = 'task.claimed' AND j.over IS NOT NULL)
                OR (type = 'task.returned' AND j.error_class = 'lost')
                OR (type = 'task.failed' AND j.fence IS NOT NULL AND j.error_class = 'lost')
        ) AS losses,
        coalesce(sum(j.usage.input_tokens), 0) AS input_tokens,
        coalesce(sum(j.usage.output_tokens), 0) AS output_tokens,
        coalesce(sum(j.usage.cost_micro_usd), 0) AS cost_micro_usd
    FROM allowed
    GROUP BY thing_id
)

SELECT
    f.task_id,
    f.state AS state,
    coalesce(g.spec_seq, o.spec_seq) AS spec_seq,
    CASE
        WHEN b.seq IS NULL AND o.spec IS NOT NULL THEN o.spec
        -- Of a settled task the outcome may be all that is left in the log.
        WHEN b.seq IS NULL THEN {
            'handler': NULL::VARCHAR,
            'executor': NULL::VARCHAR,
            'args': NULL::JSON,
            'queue': e.queue,
            'priority': e.priority,
            'key': NULL::VARCHAR,
            'labels': NULL::MAP(VARCHAR, VARCHAR),
            'max_attempts': NULL::BIGINT,
            'timeout_ms': NULL::BIGINT,
            'parent_id': NULL::VARCHAR,
            'digest': e.j.digest,
            'args_ref': NULL::STRUCT(sha256 VARCHAR, size BIGINT),
            'barrier_id': NULL::VARCHAR,
            'continues': NULL::VARCHAR,
            'after': NULL::VARCHAR[],
            'limits': NULL::VARCHAR[],
            'budgets': NULL::VARCHAR[],
            'fair_key': NULL::VARCHAR,
            'schedule': NULL::VARCHAR,
            'requires': NULL::MAP(VARCHAR, VARCHAR),
            'affinity': NULL::VARCHAR
        }
        ELSE b.spec
    END AS spec,
    coalesce(o.submitted_at, g.submitted_at) AS submitted_at,
    coalesce(o.queued_at, g.queued_at) AS queued_at,
    coalesce(o.started_at, g.started_at) AS started_at,
    CASE
        WHEN f.state NOT IN ('held', 'waiting') THEN NULL
        -- Who asks waits for the answer alone; what is held again by an answer has a time again.
        WHEN f.state = 'waiting' AND g.word.asked IS NOT NULL THEN NULL
        WHEN g.due_us IS NULL THEN o.due_at
        ELSE make_timestamp(g.due_us)::TIMESTAMPTZ
    END AS due_at,
    CASE
        WHEN f.state <> 'waiting' THEN NULL
        WHEN g.word IS NULL THEN o.asked
        ELSE g.word.asked
    END AS asked,
    f.offer AS "offer",
    CASE WHEN q.seq IS NULL THEN o.offered_at ELSE q.stored_at END AS offered_at,
    CASE WHEN q.seq IS NULL THEN o.lane ELSE q.lane END AS lane,
    f.fence AS fence,
    CASE
        WHEN f.fence IS NULL THEN NULL
        WHEN c.seq IS NULL THEN o.lease
        ELSE {
            'agent_id': c.j.agent_id,
            'worker_id': c.j.worker_id,
            'host': c.j.host,
            'claimed_at': c.stored_at
        }
    END AS lease,
    f.attempts AS attempts,
    coalesce(o.failures, g.failures_before, 0)::HUGEINT + coalesce(g.failures, 0) AS failures,
    coalesce(o.losses, g.losses_before, 0)::HUGEINT + coalesce(g.losses, 0) AS losses,
    f.is_cancel_requested AS is_cancel_requested,
    coalesce(o.input_tokens, 0) + coalesce(g.input_tokens, 0) AS input_tokens,
    coalesce(o.output_tokens, 0) + coalesce(g.output_tokens, 0) AS output_tokens,
    coalesce(o.cost_micro_usd, 0) + coalesce(g.cost_micro_usd, 0) AS cost_micro_usd,
    g.settle_seq
FROM folded AS f
LEFT JOIN gains AS g USING (task_id)
LEFT JOIN store.open_tasks AS o USING (task_id)
LEFT JOIN specs AS b ON b.seq = g.spec_seq
LEFT JOIN specs AS q ON q.seq = f.offer
LEFT JOIN batch AS c ON c.seq = f.fence
LEFT JOIN batch AS e ON e.seq = g.settle_seq
WHERE f.state NOT IN ('absent', 'settled')
