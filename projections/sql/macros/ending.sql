-- The attempt that is live in task state s and ends with event e.
CREATE OR REPLACE TEMP MACRO ending(s, e) AS
{'attempt': s.attempts, 'fence': s.fence, 'offer': s.offer, 'end_seq': e.seq}
