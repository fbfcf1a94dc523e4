-- The twin of `evolve` in bus/core/evolve.py, as far as the rules need it: task state s after event e. `fence` is set
-- while claimed, and only then; `ends` collects the attempts that ended, `violations` what was not allowed.
CREATE OR REPLACE TEMP MACRO evolve(s, e) AS CASE
    WHEN NOT permits(s, e) THEN struct_update(s, violations := list_append(s.violations, e.seq))
    WHEN e.type = 'task.held' THEN struct_update(s, state := 'held')
    WHEN e.type = 'task.queued' THEN struct_update(
        s,
        state := 'queued',
        "offer" := e.seq,
        attempts := CASE WHEN s.state = 'absent' THEN e.attempt - 1 ELSE s.attempts END
    )
    WHEN e.type = 'task.claimed' THEN struct_update(
        s,
        state := 'claimed',
        attempts := s.attempts + 1,
        fence := e.seq,
        ends := CASE WHEN e.over IS NULL THEN s.ends ELSE list_append(s.ends, ending(s, e)) END
    )
    WHEN e.type = 'task.cancel_requested' THEN struct_update(s, is_cancel_requested := true)
    ELSE struct_update(
        s,
        state := state_after(e.type),
        attempts := CASE
            WHEN state_after(e.type) = 'waiting' THEN s.attempts ELSE greatest(s.attempts, e.attempts)
        END,
        fence := NULL::BIGINT,
        ends := CASE WHEN s.fence IS NULL THEN s.ends ELSE list_append(s.ends, ending(s, e)) END
    )
END
