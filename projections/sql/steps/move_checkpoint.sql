UPDATE store.meta
SET checkpoint = b.seq, checkpoint_ns = b.stored_ns, checkpoint_subject = b.subject
FROM (SELECT seq, stored_ns, subject FROM batch ORDER BY seq DESC LIMIT 1) AS b
