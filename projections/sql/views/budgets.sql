CREATE VIEW budgets AS
WITH standing AS (
    SELECT key, count(*) AS open_tasks
    FROM (SELECT DISTINCT task_id, unnest(spec.budgets) AS key FROM store.open_tasks)
    GROUP BY key
),

known AS (
    SELECT
        coalesce(setting.key, task_id) AS key,
        *,
        -- The twin of `exhausted` in schemas/budgets.py.
        CASE
            WHEN cost_micro_usd >= setting.cost_micro_usd THEN 'cost'
            WHEN tokens >= setting.tokens THEN 'tokens'
            WHEN wall_ms >= setting.wall_ms THEN 'wall'
        END AS exhausted_resource
    FROM store.known_budgets
    -- Of one that only ends are known of nothing can be said.
    WHERE coalesce(setting.key, task_id) IS NOT NULL
)

SELECT
    key,
    k.task_id,
    k.setting.action AS action,
    k.setting.tokens AS tokens,
    TRY_CAST(k.setting.cost_micro_usd / 1000000.0 AS DECIMAL(18, 6)) AS cost_usd,
    k.setting.wall_ms AS wall_ms,
    TRY_CAST(k.tokens AS BIGINT) AS spent_tokens,
    TRY_CAST(k.cost_micro_usd / 1000000.0 AS DECIMAL(18, 6)) AS spent_cost_usd,
    TRY_CAST(k.wall_ms AS BIGINT) AS spent_wall_ms,
    CASE WHEN k.exhausted_resource IS NULL THEN 'open' ELSE 'exhausted' END AS state,
    k.exhausted_resource,
    CASE WHEN k.exhausted_resource IS NOT NULL THEN k.told_at END AS exhausted_at,
    k.setting.set_at AS set_at,
    k.setting.actor AS actor,
    k.setting.reason AS reason,
    coalesce(s.open_tasks, 0) AS open_tasks
FROM known AS k
LEFT JOIN standing AS s USING (key)
