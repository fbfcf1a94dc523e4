CREATE TABLE store.known_workers (
    agent_id VARCHAR NOT NULL,
    worker_id VARCHAR NOT NULL,
    host VARCHAR,
    pid BIGINT,
    spawned_at TIMESTAMPTZ,
    exited_at TIMESTAMPTZ,
    exit_code BIGINT,
    signal BIGINT,
    exit_reason VARCHAR,
    refused BIGINT NOT NULL
)
