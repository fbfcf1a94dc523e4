CREATE TABLE store.named_members (
    barrier_id VARCHAR NOT NULL,
    position BIGINT NOT NULL,
    task_id VARCHAR
)
