CREATE VIEW tasks AS
SELECT
    task_id,
    spec.handler AS handler,
    spec.executor AS executor,
    spec.queue AS queue,
    spec.priority AS priority,
    state,
    TRY_CAST(attempts AS BIGINT) AS attempts,
    TRY_CAST(failures AS BIGINT) AS failures,
    TRY_CAST(losses AS BIGINT) AS losses,
    submitted_at,
    queued_at,
    started_at,
    settled_at,
    settled_seq,
    due_at,
    asked.question AS question,
    asked.choices AS choices,
    asked.asked_at AS asked_at,
    result,
    result_ref.size AS result_size,
    result_ref.sha256 AS result_sha256,
    error_class,
    error,
    expired_limit,
    is_cancel_requested,
    spec.barrier_id AS barrier_id,
    spec.parent_id AS parent_id,
    spec.continues AS continues,
    spec.after AS after,
    spec.args AS args,
    spec.args_ref.size AS args_size,
    spec.args_ref.sha256 AS args_sha256,
    spec.labels AS labels,
    spec.requires AS requires,
    spec.affinity AS affinity,
    spec.key AS key,
    spec.max_attempts AS max_attempts,
    spec.timeout_ms AS timeout_ms,
    spec.digest AS digest,
    TRY_CAST(input_tokens AS BIGINT) AS input_tokens,
    TRY_CAST(output_tokens AS BIGINT) AS output_tokens,
    TRY_CAST(cost_micro_usd / 1000000.0 AS DECIMAL(18, 6)) AS cost_usd
FROM (
    SELECT
        *,
        NULL::TIMESTAMPTZ AS due_at,
        NULL::STRUCT(question VARCHAR, choices VARCHAR[], asked_at TIMESTAMPTZ) AS asked
    FROM store.settled_tasks
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (spec_seq, offer, offered_at, lane, fence, lease),
        NULL::TIMESTAMPTZ AS settled_at,
        NULL::BIGINT AS settled_seq,
        NULL::JSON AS result,
        NULL::STRUCT(sha256 VARCHAR, size BIGINT) AS result_ref,
        NULL::VARCHAR AS error_class,
        NULL::VARCHAR AS error,
        NULL::VARCHAR AS expired_limit
    FROM store.open_tasks
)
