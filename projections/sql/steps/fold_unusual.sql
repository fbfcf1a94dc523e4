-- The tasks of which not every event was the usual next step go through the rules, event by event in log order.
CREATE OR REPLACE TEMP TABLE refolded AS
SELECT
    task_id,
    list_reduce(
        list({
            'seq': seq, 'type': type, 'offer': "offer", 'over': over, 'fence': fence, 'attempt': attempt,
            'attempts': attempts
        } ORDER BY seq),
        lambda s, e: evolve(s, e),
        {
            'state': any_value(state_stored),
            'offer': any_value(offer_stored),
            'fence': any_value(fence_stored),
            'attempts': coalesce(any_value(attempts_stored), 0)::HUGEINT,
            'is_cancel_requested': bool_or(is_cancel_requested),
            'ends': []::STRUCT(attempt HUGEINT, fence BIGINT, "offer" BIGINT, end_seq BIGINT)[],
            'violations': []::BIGINT[]
        }
    ) AS s
FROM judged
WHERE task_id IN (SELECT task_id FROM judged WHERE NOT is_usual)
GROUP BY task_id
