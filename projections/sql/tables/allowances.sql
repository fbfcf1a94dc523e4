CREATE TABLE store.allowances (
    credential VARCHAR NOT NULL,
    "window" VARCHAR NOT NULL,
    utilization DOUBLE,
    resets_at TIMESTAMPTZ,
    reported_at TIMESTAMPTZ,
    seq BIGINT
)
