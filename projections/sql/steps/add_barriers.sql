INSERT INTO store.known_barriers BY NAME
SELECT
    barrier_id,
    is_by_task,
    parent_id,
    coalesce(plan.policy, 'settled') AS policy,
    plan.quorum AS quorum,
    coalesce(plan.stragglers, 'cancel') AS stragglers,
    plan.count AS expected,
    coalesce(json_type(plan.members_ref) = 'OBJECT', false) AS is_stored,
    plan.then.task_id AS continuation_id,
    plan.deadline_ms AS deadline_ms,
    seq AS opened_seq,
    stored_at AS opened_at
FROM opened
