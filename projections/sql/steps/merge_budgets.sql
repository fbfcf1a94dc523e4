-- The twin of bus/core/budgets.py and of `_charge` in bus/core/admission.py. A budget begins with its first event, or with
-- that of the task whose tree it is for; what attempts use counts from there on, and from its last reset. Runs before the
-- open tasks are replaced: the claim that ended may be an earlier batch's.
MERGE INTO store.known_budgets AS k
USING (
    WITH words AS (
        SELECT
            thing_id AS token,
            NULL::VARCHAR AS task_id,
            seq,
            stored_at,
            coalesce(j.type, '') AS type,
            j.actor AS actor,
            j.reason AS reason,
            json_transform(
                CASE WHEN problem IS NULL THEN text END,
                '{
                    "key": "VARCHAR", "is_reset": "BOOLEAN",
                    "budget": {
                        "tokens": "BIGINT", "cost_micro_usd": "BIGINT", "wall_ms": "BIGINT", "action": "VARCHAR"
                    }
                }'
            ) AS w
        FROM batch
        WHERE kind = 'budget'
    ),

    roots AS (
        SELECT
            key_token(b.thing_id) AS token,
            b.thing_id AS task_id,
            b.seq,
            b.stored_at,
            'root' AS type,
            b.j.actor AS actor,
            b.j.reason AS reason,
            {'key': b.thing_id, 'is_reset': false, 'budget': b.j.spec.budget} AS w
        FROM (
            SELECT b.*
            FROM batch AS b
            JOIN judged AS g ON g.seq = b.seq
            WHERE g.state_stored = 'absent'
                AND g.type IN ('task.held', 'task.queued')
                AND b.seq NOT IN (SELECT unnest(s.violations) FROM refolded)
            QUALIFY row_number() OVER (PARTITION BY b.thing_id ORDER BY b.seq) = 1
        ) AS b
        WHERE b.j.spec.budget IS NOT NULL
    ),

    said AS (
        SELECT
            a.*,
            a.type = 'budget.set'
            -- Who speaks of a tree's budget before there is the tree decides about it.
            OR (
                a.type = 'root'
                AND k.token IS NULL
                AND row_number() OVER (PARTITION BY a.token ORDER BY a.seq) = 1
            ) AS is_setting
        FROM (
            SELECT * FROM words
            UNION ALL BY NAME
            SELECT * FROM roots
        ) AS a
        LEFT JOIN store.known_budgets AS k USING (token)
    ),

    heard AS (
        SELECT
            token,
            any_value(task_id) AS task_id,
            min(seq) AS first_seq,
            max(seq) FILTER (WHERE is_setting AND w.is_reset) AS reset_seq,
            arg_max(
                {
                    'key': w.key,
                    'tokens': w.budget.tokens,
                    'cost_micro_usd': w.budget.cost_micro_usd,
                    'wall_ms': w.budget.wall_ms,
                    'action': coalesce(w.budget.action, 'hold'),
                    'set_at': stored_at,
                    'actor': actor,
                    'reason': reason
                },
                seq
            ) FILTER (WHERE is_setting) AS setting,
            arg_min(stored_at, seq) FILTER (WHERE type = 'budget.exhausted' AND seq > set_seq) AS told_at
        FROM (
            SELECT *, coalesce(max(seq) FILTER (WHERE is_setting) OVER (PARTITION BY token), 0) AS set_seq
            FROM said
        )
        GROUP BY token
    ),

    charges AS (
        SELECT key_token(unnest(keys)) AS token, seq, tokens, cost_micro_usd, wall_ms
        FROM (
            SELECT
                e.end_seq AS seq,
                CASE WHEN q.seq IS NULL THEN o.spec.budgets ELSE budget_keys(q.j.spec, e.task_id) END AS keys,
                coalesce(b.j.usage.input_tokens, 0)::HUGEINT + coalesce(b.j.usage.output_tokens, 0) AS tokens,
                coalesce(b.j.usage.cost_micro_usd, 0) AS cost_micro_usd,
                -- One that went down with its agent ran from its claim to this event.
                greatest(
                    0,
                    coalesce(
                        b.j.ran_ms,
                        (epoch_us(b.stored_at) - epoch_us(coalesce(c.stored_at, o.lease.claimed_at))) // 1000
                    )
                ) AS wall_ms
            FROM ends AS e
            JOIN batch AS b ON b.seq = e.end_seq
            LEFT JOIN batch AS c ON c.seq = e.fence
            LEFT JOIN batch AS q ON q.seq = e.offer
            LEFT JOIN store.open_tasks AS o ON o.task_id = e.task_id
            WHERE b.j.type <> 'task.claimed'
        )
    ),

    charged AS (
        SELECT
            c.token,
            sum(c.tokens) AS tokens,
            sum(c.cost_micro_usd) AS cost_micro_usd,
            sum(c.wall_ms) AS wall_ms
        FROM charges AS c
        LEFT JOIN heard AS h USING (token)
        LEFT JOIN store.known_budgets AS k USING (token)
        WHERE (k.token IS NOT NULL OR c.seq > h.first_seq)
            AND c.seq > coalesce(h.reset_seq, 0)
        GROUP BY c.token
    )

    SELECT
        token,
        h.task_id,
        h.setting,
        h.told_at,
        h.reset_seq IS NOT NULL AS is_reset,
        coalesce(c.tokens, 0) AS tokens,
        coalesce(c.cost_micro_usd, 0) AS cost_micro_usd,
        coalesce(c.wall_ms, 0) AS wall_ms
    FROM heard AS h
    FULL JOIN charged AS c USING (token)
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
