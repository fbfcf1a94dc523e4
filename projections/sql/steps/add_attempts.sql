INSERT INTO store.ended_attempts BY NAME
SELECT
    * EXCLUDE (end_seq, cost_micro_usd, budgets),
    TRY_CAST(cost_micro_usd / 1000000.0 AS DECIMAL(18, 6)) AS cost_usd
FROM attempts_ended
