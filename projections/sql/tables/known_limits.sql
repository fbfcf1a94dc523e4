CREATE TABLE store.known_limits (
    key VARCHAR NOT NULL,
    setting STRUCT(
        concurrency BIGINT, rate BIGINT, per_ms BIGINT, burst BIGINT, set_at TIMESTAMPTZ, actor VARCHAR,
        reason VARCHAR
    ),
    admissions HUGEINT NOT NULL,
    admitted_at TIMESTAMPTZ
)
