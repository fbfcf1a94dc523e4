CREATE TABLE store.open_tasks (
    task_id VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    spec_seq BIGINT,
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
    due_at TIMESTAMPTZ,
    asked STRUCT(question VARCHAR, choices VARCHAR[], asked_at TIMESTAMPTZ),
    offer BIGINT,
    offered_at TIMESTAMPTZ,
    lane VARCHAR,
    fence BIGINT,
    lease STRUCT(agent_id VARCHAR, worker_id VARCHAR, host VARCHAR, claimed_at TIMESTAMPTZ),
    attempts HUGEINT NOT NULL,
    failures HUGEINT NOT NULL,
    losses HUGEINT NOT NULL,
    is_cancel_requested BOOLEAN NOT NULL,
    input_tokens HUGEINT NOT NULL,
    output_tokens HUGEINT NOT NULL,
    cost_micro_usd HUGEINT NOT NULL
)
