-- One row per message of the batch, whatever it holds; `j` is NULL and `problem` says why where it can't be understood.
-- `j` has what is in most events, or read by more than one step: each column costs time for every row, NULL or not.
CREATE OR REPLACE TEMP TABLE batch AS
WITH words AS (
    SELECT *, string_split(subject, '.') AS word
    FROM incoming
    WHERE seq > (SELECT checkpoint FROM store.meta)
),

parsed AS (
    SELECT
        w.*,
        CASE WHEN word[1] = 'fleetlog' AND len(word) = CASE word[3] WHEN 'task' THEN 7 WHEN 'worker' THEN 6 ELSE 5 END
            AND (word[3] <> 'task' OR word[6] IN ('high', 'normal', 'low'))
            AND list_contains(getvariable('grammar'), word[3] || '.' || word[-1])
            THEN word[3]
        END AS kind,
        TRY(json_transform(
            CASE WHEN problem = '' THEN text END,
            '{
                "type": "VARCHAR", "id": "VARCHAR", "occurred_at": "TIMESTAMPTZ", "cause": "VARCHAR",
                "actor": "VARCHAR", "reason": "VARCHAR",
                "spec": "JSON", "digest": "VARCHAR", "attempt": "BIGINT", "failures": "BIGINT", "losses": "BIGINT",
                "submitted_at": "TIMESTAMPTZ", "agent_id": "VARCHAR", "worker_id": "VARCHAR",
                "host": "VARCHAR", "offer": "BIGINT", "over": "BIGINT", "attempts": "BIGINT",
                "fence": "BIGINT", "ran_ms": "BIGINT", "exit_code": "BIGINT",
                "usage": {
                    "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cost_micro_usd": "BIGINT",
                    "model": "VARCHAR"
                },
                "worktree": "JSON", "error_class": "VARCHAR", "error": "VARCHAR", "delay_ms": "BIGINT",
                "question": "JSON", "result": "JSON", "result_ref": {"sha256": "VARCHAR", "size": "BIGINT"},
                "fan_out": "JSON",
                "limit": "VARCHAR", "task_id": "VARCHAR", "allowances": "JSON"
            }'
        )) AS j
    FROM words AS w
)

SELECT
    p.seq,
    make_timestamp(stored_ns // 1000)::TIMESTAMPTZ AS stored_at,
    stored_ns,
    subject,
    kind,
    word[4] AS thing_id,
    CASE kind WHEN 'task' THEN coalesce(d.base, word[5]) WHEN 'queue' THEN word[4] END AS queue,
    CASE WHEN kind = 'task' THEN word[5] END AS lane,
    CASE WHEN kind = 'task' THEN word[6] END AS priority,
    CASE WHEN kind = 'worker' THEN word[5] END AS worker_id,
    CASE
        WHEN kind IS NULL THEN 'the subject is not one of the log'
        WHEN problem <> '' THEN problem
        WHEN j IS NULL THEN 'not JSON that DuckDB can read'
    END AS problem,
    text,
    bytes,
    j
FROM parsed AS p
-- What was offered on a queue derived from another one counts for that one, from the event on that says so.
LEFT JOIN derived_queues AS d ON kind = 'task' AND d.queue = word[5] AND d.seq < p.seq
