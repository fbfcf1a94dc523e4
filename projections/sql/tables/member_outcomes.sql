CREATE TABLE store.member_outcomes (
    barrier_id VARCHAR NOT NULL,
    position BIGINT NOT NULL,
    seq BIGINT,
    task_id VARCHAR
)
