CREATE TABLE store.meta (
    layout VARCHAR NOT NULL,
    fleet VARCHAR NOT NULL,
    checkpoint BIGINT NOT NULL,
    checkpoint_ns BIGINT NOT NULL,
    checkpoint_subject VARCHAR NOT NULL
)
