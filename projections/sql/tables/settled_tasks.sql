CREATE TABLE store.settled_tasks (
    task_id VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    spec STRUCT(
        handler VARCHAR, executor VARCHAR, args JSON, queue VARCHAR, priority VARCHAR, key VARCHAR,
        labels MAP(VARCHAR, VARCHAR), max_attempts BIGINT, timeout_ms BIGINT, parent_id VARCHAR,
        digest VARCHAR, args_ref STRUCT(sha256 VARCHAR, size BIGINT), barrier_id VARCHAR, continues VARCHAR,
        after VARCHAR[], limits VARCHAR[], budgets VARCHAR[], fair_key VARCHAR, schedule VARCHAR,
        requires MAP(VARCHAR, VARCHAR), affinity VARCHAR
    ),
    submitted_at TIMESTAMPTZ,
    queued_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ,
    settled_at TIMESTAMPTZ NOT NULL,
    settled_seq BIGINT NOT NULL,
    attempts HUGEINT NOT NULL,
    failures HUGEINT NOT NULL,
    losses HUGEINT NOT NULL,
    is_cancel_requested BOOLEAN NOT NULL,
    result JSON,
    result_ref STRUCT(sha256 VARCHAR, size BIGINT),
    error_class VARCHAR,
    error VARCHAR,
    expired_limit VARCHAR,
    input_tokens HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL,
    cost_micro_usd HUGEINT NOT NULL
)
