CREATE VIEW cost AS
SELECT
    handler,
    queue,
    model,
    count(*) AS attempts,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd
FROM store.ended_attempts
WHERE cost_usd IS NOT NULL OR input_tokens IS NOT NULL
GROUP BY ALL
ORDER BY ALL
