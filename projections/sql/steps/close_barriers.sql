UPDATE store.known_barriers
SET
    end_seq = n.seq,
    end_state = n.state,
    ended_at = n.stored_at,
    -- Who abandons it from outside has not counted.
    settled = CASE WHEN n.state = 'released' OR n.e.expected > 0 THEN coalesce(n.e.settled, 0) END,
    succeeded = CASE WHEN n.state = 'released' OR n.e.expected > 0 THEN coalesce(n.e.succeeded, 0) END,
    why = n.e.why,
    reason = CASE WHEN n.state = 'released' THEN n.e.reason ELSE n.e.error END,
    actor = n.e.actor
FROM ended AS n
WHERE known_barriers.barrier_id = n.barrier_id
