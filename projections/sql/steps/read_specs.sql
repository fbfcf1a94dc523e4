-- What the batch's tasks are to do, with what their specs say of it.
CREATE OR REPLACE TEMP TABLE specs AS
SELECT
    seq,
    stored_at,
    lane,
    {
        'handler': s.handler,
        'executor': coalesce(s.executor, 'python'),
        'args': CASE WHEN s.args_ref IS NULL THEN coalesce(s.args, '{}'::JSON) END,
        -- Not what its offers' subjects say: the event that tells which queue one is derived from may be lost, or come later.
        'queue': coalesce(s.queue, 'default'),
        'priority': priority,
        'key': s.key,
        'labels': coalesce(s.labels, MAP {}::MAP(VARCHAR, VARCHAR)),
        'max_attempts': coalesce(s.max_attempts, 3),
        'timeout_ms': CASE WHEN is_without_timeout THEN NULL ELSE coalesce(s.timeout_ms, 3600000) END,
        'parent_id': s.parent_id,
        'digest': digest,
        'args_ref': s.args_ref,
        'barrier_id': s.barrier_id,
        'continues': s.continues,
        'after': coalesce(s.after, []),
        'limits': coalesce(s.limits, []),
        -- The twin of `TaskSpec.budget_keys` in schemas/specs.py: the budgets that what the task uses counts on.
        'budgets': list_concat(coalesce(s.budgets, []), CASE WHEN s.budget IS NULL THEN [] ELSE [task_id] END),
        'fair_key': s.fair_key,
        'schedule': s.schedule,
        'requires': coalesce(s.requires, MAP {}::MAP(VARCHAR, VARCHAR)),
        'affinity': s.affinity
    } AS spec,
    s.budget AS budget
FROM (
    SELECT
        seq,
        stored_at,
        thing_id AS task_id,
        lane,
        priority,
        j.digest AS digest,
        -- A limit that is not named is the default, one that is null is none: `json_transform` makes NULL of both.
        coalesce(json_type(j.spec, '$.timeout_ms') = 'NULL', false) AS is_without_timeout,
        TRY(json_transform(
            j.spec,
            '{
                "handler": "VARCHAR", "executor": "VARCHAR", "args": "JSON", "queue": "VARCHAR", "key": "VARCHAR",
                "labels": "MAP(VARCHAR, VARCHAR)", "max_attempts": "BIGINT", "timeout_ms": "BIGINT",
                "parent_id": "VARCHAR", "args_ref": {"sha256": "VARCHAR", "size": "BIGINT"},
                "barrier_id": "VARCHAR", "continues": "VARCHAR", "after": ["VARCHAR"],
                "limits": ["VARCHAR"], "budgets": ["VARCHAR"], "fair_key": "VARCHAR",
                "budget": {
                    "tokens": "BIGINT", "cost_micro_usd": "BIGINT", "wall_ms": "BIGINT", "action": "VARCHAR"
                },
                "schedule": "VARCHAR", "requires": "MAP(VARCHAR, VARCHAR)", "affinity": "VARCHAR"
            }'
        )) AS s
    FROM batch
    WHERE kind = 'task' AND problem IS NULL AND j.type IN ('task.held', 'task.queued')
)
