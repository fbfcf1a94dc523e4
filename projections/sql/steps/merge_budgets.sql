-- The twin of bus/core/budgets.py and of `_charge` in bus/core/admission.py. A budget begins with its first event, or with
-- that of the task whose tree it is for; what attempts use counts from there on, and from its last reset.
-- Windows instead of joins of joins, at some of which DuckDB 2.0 fails with an internal error ("dict-surviving join").
MERGE INTO store.known_budgets AS k
USING (
    SELECT
        token,
        any_value(task_id) AS task_id,
        bool_or(is_reset) AS is_reset,
        arg_max(
            {
                'key': key,
                'tokens': budget.tokens,
                'cost_micro_usd': budget.cost_micro_usd,
                'wall_ms': budget.wall_ms,
                'action': coalesce(budget.action, 'hold'),
                'set_at': stored_at,
                'actor': actor,
                'reason': reason
            },
            seq
        ) FILTER (WHERE is_setting) AS setting,
        arg_min(stored_at, seq) FILTER (WHERE type = 'budget.exhausted' AND seq > set_seq) AS told_at,
        coalesce(sum(tokens) FILTER (WHERE seq > reset_seq), 0) AS tokens,
        coalesce(sum(cost_micro_usd) FILTER (WHERE seq > reset_seq), 0) AS cost_micro_usd,
        coalesce(sum(wall_ms) FILTER (WHERE seq > reset_seq), 0) AS wall_ms
    FROM (
        SELECT
            *,
            coalesce(max(seq) FILTER (WHERE is_setting) OVER (PARTITION BY token), 0) AS set_seq,
            coalesce(max(seq) FILTER (WHERE is_reset) OVER (PARTITION BY token), 0) AS reset_seq
        FROM (
            SELECT
                *,
                -- Who speaks of a tree's budget before there is the tree decides about it.
                type = 'budget.set' OR (type = 'root' AND seq = begun_seq) AS is_setting
            FROM (
                SELECT *, min(seq) FILTER (WHERE type <> 'charge') OVER (PARTITION BY token) AS begun_seq
                FROM (
                    SELECT * FROM said
                    UNION ALL BY NAME
                    SELECT token, 0 AS seq, 'known' AS type
                    FROM store.known_budgets
                    WHERE token IN (SELECT token FROM said)
                )
            )
            -- What was used before it began does not count.
            WHERE seq >= begun_seq
        )
    )
    GROUP BY token
) AS n ON k.token = n.token
WHEN MATCHED THEN UPDATE SET
    task_id = coalesce(k.task_id, n.task_id),
    setting = coalesce(n.setting, k.setting),
    told_at = CASE WHEN n.setting IS NULL THEN coalesce(k.told_at, n.told_at) ELSE n.told_at END,
    tokens = CASE WHEN n.is_reset THEN 0 ELSE k.tokens END + n.tokens,
    cost_micro_usd = CASE WHEN n.is_reset THEN 0 ELSE k.cost_micro_usd END + n.cost_micro_usd,
    wall_ms = CASE WHEN n.is_reset THEN 0 ELSE k.wall_ms END + n.wall_ms
WHEN NOT MATCHED THEN INSERT (token, task_id, setting, told_at, tokens, cost_micro_usd, wall_ms)
VALUES (n.token, n.task_id, n.setting, n.told_at, n.tokens, n.cost_micro_usd, n.wall_ms)
