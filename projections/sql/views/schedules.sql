-- Schedules are few, so they are read from the events as they are. The twin of `evolve_schedule` in
-- bus/core/schedule.py: a removed one begins anew when it is set, and a set leaves a pause as it is.
CREATE VIEW schedules AS
WITH said AS (
    SELECT
        split_part(subject, '.', 4) AS name,
        seq,
        stored_at,
        split_part(type, '.', 2) AS verb,
        {
            'cron': raw ->> '$.cron',
            'every_ms': TRY_CAST(raw ->> '$.every_ms' AS BIGINT),
            'zone': coalesce(raw ->> '$.zone', 'UTC'),
            'overlap': coalesce(raw ->> '$.overlap', 'allow'),
            'handler': raw ->> '$.spec.handler',
            'executor': coalesce(raw ->> '$.spec.executor', 'python'),
            'queue': coalesce(raw ->> '$.spec.queue', 'default')
        } AS rule,
        actor,
        reason
    FROM events
    WHERE type IN ('schedule.set', 'schedule.removed', 'schedule.paused', 'schedule.resumed')
        AND problem IS NULL
        AND split_part(subject, '.', 3) = 'schedule'
),

removals AS (
    SELECT *, max(seq) FILTER (WHERE verb = 'removed') OVER (PARTITION BY name) AS removed_seq
    FROM said
),

lives AS (
    SELECT
        *,
        min(seq) FILTER (WHERE verb = 'set' AND seq > coalesce(removed_seq, 0)) OVER (PARTITION BY name)
            AS begun_seq
    FROM removals
),

stands AS (
    SELECT
        name,
        arg_max(rule, seq) FILTER (WHERE verb = 'set') AS rule,
        arg_max(stored_at, seq) FILTER (WHERE verb = 'set') AS set_at,
        any_value(begun_seq) IS NULL AS is_removed,
        arg_max(stored_at, seq) FILTER (WHERE verb = 'removed') AS removed_at,
        arg_max({'is_pause': verb = 'paused', 'at': stored_at}, seq)
            FILTER (WHERE verb IN ('paused', 'resumed') AND seq > begun_seq) AS pause,
        arg_max({'text': actor}, seq).text AS actor,
        arg_max({'text': reason}, seq).text AS reason
    FROM lives
    GROUP BY name
    HAVING bool_or(verb = 'set')
),

made AS (
    SELECT
        schedule,
        task_id,
        state,
        -- Revived tasks name the schedule, too, but their ids end otherwise.
        regexp_extract(
            substr(task_id, length(schedule) + 1),
            '^-([0-9]{8}T[0-9]{6})([0-9]{3})?Z$',
            ['at', 'ms']
        ) AS word
    FROM tasks
    WHERE schedule IS NOT NULL AND starts_with(task_id, schedule || '-')
),

fired AS (
    SELECT
        schedule,
        task_id,
        state,
        try_strptime(word.at, '%Y%m%dT%H%M%S')::TIMESTAMPTZ
        + to_milliseconds(coalesce(TRY_CAST(word.ms AS BIGINT), 0)) AS instant
    FROM made
),

counted AS (
    SELECT
        schedule,
        count(*) AS tasks,
        max(instant) AS last_instant,
        arg_max({'task_id': task_id, 'state': state}, instant) AS last
    FROM fired
    WHERE instant IS NOT NULL
    GROUP BY schedule
)

SELECT
    s.name AS name,
    CASE WHEN s.is_removed THEN 'removed' WHEN s.pause.is_pause THEN 'paused' ELSE 'active' END AS state,
    s.rule.cron AS cron,
    s.rule.every_ms AS every_ms,
    CASE WHEN s.rule.cron IS NOT NULL THEN s.rule.zone END AS zone,
    s.rule.overlap AS overlap,
    s.rule.handler AS handler,
    s.rule.executor AS executor,
    s.rule.queue AS queue,
    s.set_at AS set_at,
    CASE WHEN NOT s.is_removed AND s.pause.is_pause THEN s.pause.at END AS paused_at,
    CASE WHEN s.is_removed THEN s.removed_at END AS removed_at,
    s.actor AS actor,
    s.reason AS reason,
    coalesce(c.tasks, 0) AS tasks,
    c.last_instant AS last_instant,
    c.last.task_id AS last_task_id,
    c.last.state AS last_task_state
FROM stands AS s
LEFT JOIN counted AS c ON c.schedule = s.name
