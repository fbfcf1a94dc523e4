-- Of members that stand in the object store the release names the outcomes; 0 stands for one that was still open.
INSERT INTO store.member_outcomes BY NAME
SELECT o.barrier_id, o.position, o.seq, e.task_id
FROM (
    SELECT
        barrier_id, unnest(e.outcomes) AS seq, unnest(range(1, len(e.outcomes) + 1)) AS position
    FROM ended
    JOIN store.known_barriers AS k USING (barrier_id)
    WHERE k.is_stored AND len(e.outcomes) > 0
) AS o
LEFT JOIN events AS e ON e.seq = o.seq
WHERE o.seq <> 0
