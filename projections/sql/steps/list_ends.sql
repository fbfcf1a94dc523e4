-- The attempts that end in the batch, and where.
CREATE OR REPLACE TEMP TABLE ends AS
SELECT task_id, claims AS attempt, fence, offer_claimed AS "offer", seq AS end_seq
FROM judged
WHERE ends_attempt(type) AND task_id NOT IN (SELECT task_id FROM refolded)
UNION ALL
SELECT task_id, unnest(s.ends, recursive := true) FROM refolded
