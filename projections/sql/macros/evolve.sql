-- The twin of `evolve` in bus/core/evolve.py: task state s after event e. `fence` is set while claimed, and only then;
-- `ends` collects the attempts that ended, `violations` the sequences of events that were not allowed.
CREATE OR REPLACE TEMP MACRO evolve(s, e) AS CASE
    WHEN NOT permits(s, e)
        THEN struct_update(s, violations := list_append(s.violations, e.seq))
    WHEN e.type = 'task.held' THEN struct_update(
        s,
        state := 'held',
        spec_seq := e.seq,
        submitted_at := e.stored_at,
        due_at := e.due_at
    )
    WHEN e.type = 'task.queued' THEN struct_update(
        s,
        state := 'queued',
        spec_seq := e.seq,
        submitted_at := coalesce(s.submitted_at, e.submitted_at, e.stored_at),
        queued_at := coalesce(s.queued_at, e.stored_at),
        due_at := NULL::TIMESTAMPTZ,
        offer := e.seq,
        offered_at := e.stored_at,
        attempts := CASE WHEN s.state = 'absent' THEN e.attempt - 1 ELSE s.attempts END,
        failures := CASE WHEN s.state = 'absent' THEN e.failures ELSE s.failures END,
        losses := CASE WHEN s.state = 'absent' THEN e.losses ELSE s.losses END
    )
    WHEN e.type = 'task.claimed' THEN struct_update(
        s,
        state := 'claimed',
        started_at := coalesce(s.started_at, e.stored_at),
        attempts := s.attempts + 1,
        losses := s.losses + CASE WHEN e.over IS NULL THEN 0 ELSE 1 END,
        fence := e.seq,
        ends := CASE WHEN e.over IS NULL THEN s.ends ELSE list_append(s.ends, ending(s, e)) END
    )
    WHEN e.type = 'task.cancel_requested'
        THEN struct_update(s, is_cancel_requested := true)
    ELSE struct_update(
        s,
        state := CASE
            WHEN e.type IN ('task.retried', 'task.returned') THEN 'waiting'
            ELSE substr(e.type, 6)
        END,
        due_at := e.due_at,
        settle_seq := CASE
            WHEN e.type NOT IN ('task.retried', 'task.returned') THEN e.seq
        END,
        attempts := CASE
            WHEN e.type IN ('task.retried', 'task.returned') THEN s.attempts
            ELSE greatest(s.attempts, e.attempts)
        END,
        failures := s.failures + CASE WHEN e.type = 'task.retried' THEN 1 ELSE 0 END,
        losses := s.losses
            + CASE WHEN e.type = 'task.returned' AND e.error_class = 'lost' THEN 1 ELSE 0 END,
        fence := NULL::BIGINT,
        ends := CASE WHEN s.fence IS NULL THEN s.ends ELSE list_append(s.ends, ending(s, e)) END,
        input_tokens := s.input_tokens + coalesce(e.input_tokens, 0),
        output_tokens := s.output_tokens + coalesce(e.output_tokens, 0),
        cost_micro_usd := s.cost_micro_usd + coalesce(e.cost_micro_usd, 0)
    )
END
