INSERT INTO store.settled_tasks BY NAME
SELECT
    c.task_id,
    c.state,
    c.spec,
    c.submitted_at,
    c.queued_at,
    c.started_at,
    b.stored_at AS settled_at,
    c.settle_seq AS settled_seq,
    c.attempts,
    c.failures,
    c.losses,
    c.is_cancel_requested,
    CASE
        WHEN c.state = 'completed' AND b.j.result_ref IS NULL THEN coalesce(b.j.result, 'null'::JSON)
    END AS result,
    CASE WHEN c.state = 'completed' THEN b.j.result_ref END AS result_ref,
    b.j.error_class AS error_class,
    b.j.error AS error,
    b.j."limit" AS expired_limit,
    c.input_tokens,
    c.output_tokens,
    c.cost_micro_usd
FROM changed AS c
JOIN batch AS b ON b.seq = c.settle_seq

