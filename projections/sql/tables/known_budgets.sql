CREATE TABLE store.known_budgets (
    token VARCHAR NOT NULL,
    task_id VARCHAR,
    setting STRUCT(
        key VARCHAR, tokens BIGINT, cost_micro_usd BIGINT, wall_ms BIGINT, action VARCHAR, set_at TIMESTAMPTZ,
        actor VARCHAR, reason VARCHAR
    ),
    told_at TIMESTAMPTZ,
    tokens HUGEINT NOT NULL,
    cost_micro_usd HUGEINT NOT NULL,
    wall_ms HUGEINT NOT NULL
)
