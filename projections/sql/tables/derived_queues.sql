CREATE TABLE derived_queues (
    queue VARCHAR NOT NULL,
    base VARCHAR NOT NULL,
    requires MAP(VARCHAR, VARCHAR) NOT NULL,
    seq BIGINT NOT NULL
)
