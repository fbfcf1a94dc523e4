CREATE TABLE store.known_agents (
    agent_id VARCHAR NOT NULL,
    host VARCHAR,
    pid BIGINT,
    version VARCHAR,
    queues VARCHAR[],
    workers BIGINT,
    concurrency BIGINT,
    labels MAP(VARCHAR, VARCHAR),
    started_at TIMESTAMPTZ,
    draining_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    end_state VARCHAR,
    strained_at TIMESTAMPTZ,
    strains STRUCT(resource VARCHAR, "left" BIGINT, floor BIGINT, "where" VARCHAR)[],
    reserve_high BIGINT
)
