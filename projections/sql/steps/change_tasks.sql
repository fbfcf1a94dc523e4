-- The new row of each task that the batch changed; a settled task never changes again.
CREATE OR REPLACE TEMP TABLE changed AS
SELECT
    f.task_id,
    f.s.state,
    f.s.spec_seq,
    CASE
        WHEN b.seq IS NULL AND o.spec IS NOT NULL THEN o.spec
        -- Of a settled task the outcome may be all that is left in the log.
        WHEN b.seq IS NULL AND e.seq IS NOT NULL THEN {
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
            'digest': e.j.digest
        }
        WHEN b.seq IS NOT NULL THEN {
            'handler': b.j.spec.handler,
            'executor': coalesce(b.j.spec.executor, 'python'),
            'args': coalesce(b.j.spec.args, '{}'::JSON),
            'queue': b.queue,
            'priority': b.priority,
            'key': b.j.spec.key,
            'labels': coalesce(b.j.spec.labels, MAP {}::MAP(VARCHAR, VARCHAR)),
            'max_attempts': coalesce(b.j.spec.max_attempts, 3),
            'timeout_ms': CASE
                WHEN b.j.spec.timeout_ms IS NULL THEN 3600000
                ELSE TRY_CAST(b.j.spec.timeout_ms AS BIGINT)
            END,
            'parent_id': b.j.spec.parent_id,
            'digest': b.j.digest
        }
    END AS spec,
    f.s.submitted_at,
    f.s.queued_at,
    f.s.started_at,
    f.s.due_at,
    f.s.offer,
    f.s.offered_at,
    f.s.fence,
    CASE
        WHEN f.s.fence IS NULL THEN NULL
        WHEN c.seq IS NULL THEN o.lease
        ELSE {
            'agent_id': c.j.agent_id,
            'worker_id': c.j.worker_id,
            'host': c.j.host,
            'claimed_at': c.stored_at
        }
    END AS lease,
    f.s.attempts,
    f.s.failures,
    f.s.losses,
    f.s.is_cancel_requested,
    f.s.input_tokens,
    f.s.output_tokens,
    f.s.cost_micro_usd,
    f.s.settle_seq
FROM folded AS f
LEFT JOIN store.open_tasks AS o USING (task_id)
LEFT JOIN batch AS b ON b.seq = f.s.spec_seq
LEFT JOIN batch AS c ON c.seq = f.s.fence
LEFT JOIN batch AS e ON e.seq = f.s.settle_seq
WHERE f.s.state NOT IN ('absent', 'settled')
