-- Pauses are rare, so they are read from the events as they are; the last one decides.
CREATE VIEW credentials AS
WITH said AS (
    SELECT
        split_part(subject, '.', 4) AS credential,
        seq,
        stored_at,
        type = 'credential.paused' AS is_pause,
        {
            'at': stored_at,
            'until': TRY_CAST(raw ->> '$.until' AS TIMESTAMPTZ),
            'error_class': raw ->> '$.error_class',
            'error': raw ->> '$.error',
            'agent_id': raw ->> '$.agent_id',
            'host': raw ->> '$.host'
        } AS pause,
        actor,
        reason
    FROM events
    WHERE type IN ('credential.paused', 'credential.resumed')
        AND problem IS NULL
        AND split_part(subject, '.', 3) = 'credential'
),

pauses AS (
    SELECT
        credential,
        arg_max(is_pause, seq) AS is_paused,
        arg_max(pause, seq) FILTER (WHERE is_pause) AS pause,
        arg_max(stored_at, seq) FILTER (WHERE NOT is_pause) AS resumed_at,
        arg_max({'text': actor}, seq).text AS actor,
        arg_max({'text': reason}, seq).text AS reason,
        count(*) FILTER (WHERE is_pause) AS pauses
    FROM said
    GROUP BY credential
),

used AS (
    SELECT
        credential,
        max(utilization) AS utilization,
        list({
            'window': "window", 'utilization': utilization, 'resets_at': resets_at, 'reported_at': reported_at
        } ORDER BY "window") AS allowances
    FROM store.allowances
    GROUP BY credential
)

SELECT
    credential,
    CASE WHEN p.is_paused THEN 'paused' ELSE 'active' END AS state,
    p.pause.error_class AS error_class,
    p.pause.error AS error,
    p.pause.at AS paused_at,
    CASE WHEN p.is_paused THEN p.pause.until END AS paused_until,
    p.resumed_at AS resumed_at,
    p.pause.agent_id AS agent_id,
    p.pause.host AS host,
    p.actor AS actor,
    p.reason AS reason,
    coalesce(p.pauses, 0) AS pauses,
    u.utilization AS utilization,
    coalesce(u.allowances, []) AS allowances
FROM pauses AS p
FULL JOIN used AS u USING (credential)
