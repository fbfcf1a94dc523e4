INSERT INTO store.named_members BY NAME
SELECT barrier_id, position, m.task_id AS task_id
FROM (
    SELECT barrier_id, unnest(plan.members) AS m, unnest(range(1, len(plan.members) + 1)) AS position
    FROM opened
    WHERE len(plan.members) > 0
)
