CREATE TABLE queues (
    queue VARCHAR NOT NULL,
    is_paused BOOLEAN NOT NULL,
    paused_at TIMESTAMPTZ,
    resumed_at TIMESTAMPTZ,
    actor VARCHAR,
    reason VARCHAR,
    seq BIGINT NOT NULL
)
