CREATE TABLE heartbeats (
    agent_id VARCHAR NOT NULL,
    host VARCHAR,
    stored_at TIMESTAMPTZ NOT NULL,
    state VARCHAR,
    worker_id VARCHAR,
    pid BIGINT,
    worker_state VARCHAR,
    task_id VARCHAR,
    attempt BIGINT,
    running BIGINT,
    output_at TIMESTAMPTZ,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cost_micro_usd BIGINT,
    rss_bytes BIGINT,
    cpu_s DOUBLE,
    crashes BIGINT
)
