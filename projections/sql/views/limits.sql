CREATE VIEW limits AS
WITH standing AS (
    SELECT
        key,
        count(*) FILTER (WHERE state IN ('queued', 'claimed')) AS holders,
        count(*) FILTER (WHERE state IN ('held', 'waiting')) AS waiting
    FROM (SELECT DISTINCT task_id, state, unnest(spec.limits) AS key FROM store.open_tasks)
    GROUP BY key
),

-- One aggregate instead of a full join: at some joins of joins DuckDB 2.0 fails with an internal error.
known AS (
    SELECT
        key,
        -- The twin of `family_of` in bus/core/limits.py.
        CASE
            WHEN contains(key, ':') AND NOT ends_with(key, ':*') THEN split_part(key, ':', 1) || ':*'
        END AS family,
        any_value(setting) AS setting,
        any_value(holders) AS holders,
        any_value(waiting) AS waiting,
        any_value(admissions) AS admissions,
        any_value(admitted_at) AS admitted_at
    FROM (
        SELECT * FROM store.known_limits
        UNION ALL BY NAME
        SELECT * FROM standing
    )
    GROUP BY key
    -- Of a family the keys come and go: those that nobody set are shown as long as they bound something.
    HAVING any_value(setting) IS NOT NULL OR any_value(holders) IS NOT NULL
)

SELECT
    key,
    h.concurrency,
    h.rate,
    CASE WHEN h.rate IS NOT NULL THEN h.per_ms END AS per_ms,
    CASE WHEN h.rate IS NOT NULL THEN coalesce(h.burst, h.rate) END AS burst,
    setting_key,
    h.set_at,
    h.actor,
    h.reason,
    coalesce(holders, 0) AS holders,
    coalesce(waiting, 0) AS waiting,
    TRY_CAST(coalesce(admissions, 0) AS BIGINT) AS admissions,
    admitted_at
FROM (
    SELECT
        k.*,
        coalesce(k.setting, f.setting) AS h,
        CASE WHEN k.setting IS NOT NULL THEN k.key WHEN f.setting IS NOT NULL THEN f.key END AS setting_key
    FROM known AS k
    LEFT JOIN store.known_limits AS f ON f.key = k.family
)
