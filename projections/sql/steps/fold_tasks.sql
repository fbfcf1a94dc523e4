-- What the batch makes of each task it speaks of: the state before it, evolved event by event in log order.
CREATE OR REPLACE TEMP TABLE folded AS
WITH histories AS (
    SELECT
        thing_id AS task_id,
        list({
            'seq': seq,
            'type': CASE WHEN problem IS NULL THEN j.type END,
            'stored_at': stored_at,
            'submitted_at': j.submitted_at,
            -- Bounded, because a foreign writer's delay may reach beyond the end of time.
            'due_at': make_timestamp(least(
                epoch_us(stored_at)
                + 1000 * least(greatest(coalesce(j.spec.delay_ms, j.delay_ms, 0), 0), 1000000000000000),
                epoch_us(TIMESTAMPTZ '9999-12-31 23:59:59.999999+00')
            ))::TIMESTAMPTZ,
            'offer': j.offer,
            'over': j.over,
            'fence': j.fence,
            'attempt': coalesce(j.attempt, 1),
            'attempts': j.attempts,
            'failures': coalesce(j.failures, 0),
            'losses': coalesce(j.losses, 0),
            'error_class': j.error_class,
            'input_tokens': j.usage.input_tokens,
            'output_tokens': j.usage.output_tokens,
            'cost_micro_usd': j.usage.cost_micro_usd
        } ORDER BY seq) AS history
    FROM batch
    WHERE kind = 'task'
    GROUP BY thing_id
),

settled AS (
    SELECT task_id FROM store.settled_tasks WHERE task_id IN (SELECT task_id FROM histories)
)

SELECT
    h.task_id,
    list_reduce(
        h.history,
        lambda s, e: evolve(s, e),
        {
            'state': CASE WHEN s.task_id IS NOT NULL THEN 'settled' ELSE coalesce(o.state, 'absent') END,
            'spec_seq': o.spec_seq,
            'submitted_at': o.submitted_at,
            'queued_at': o.queued_at,
            'started_at': o.started_at,
            'due_at': o.due_at,
            'offer': o.offer,
            'offered_at': o.offered_at,
            'fence': o.fence,
            'attempts': coalesce(o.attempts, 0)::HUGEINT,
            'failures': coalesce(o.failures, 0)::HUGEINT,
            'losses': coalesce(o.losses, 0)::HUGEINT,
            'is_cancel_requested': coalesce(o.is_cancel_requested, false),
            'input_tokens': coalesce(o.input_tokens, 0)::HUGEINT,
            'output_tokens': coalesce(o.output_tokens, 0)::HUGEINT,
            'cost_micro_usd': coalesce(o.cost_micro_usd, 0)::HUGEINT,
            'settle_seq': NULL::BIGINT,
            'ends': []::STRUCT(
                attempt HUGEINT, fence BIGINT, "offer" BIGINT, offered_at TIMESTAMPTZ, end_seq BIGINT
            )[],
            'violations': []::BIGINT[]
        }
    ) AS s
FROM histories AS h
LEFT JOIN store.open_tasks AS o USING (task_id)
LEFT JOIN settled AS s USING (task_id)
