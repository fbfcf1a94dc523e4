-- What attempts used whose tasks name budgets.
INSERT INTO said BY NAME
SELECT
    key_token(unnest(budgets)) AS token,
    end_seq AS seq,
    'charge' AS type,
    ended_at AS stored_at,
    false AS is_reset,
    coalesce(input_tokens, 0)::HUGEINT + coalesce(output_tokens, 0) AS tokens,
    coalesce(cost_micro_usd, 0) AS cost_micro_usd,
    -- One that went down with its agent ran from its claim to this event.
    greatest(0, coalesce(ran_ms, (epoch_us(ended_at) - epoch_us(claimed_at)) // 1000)) AS wall_ms
FROM attempts_ended
-- A claim over a dead holder says nothing of what that used.
WHERE outcome <> 'lost'
