-- The state that the end of an attempt, or of a task, leads to.
CREATE OR REPLACE TEMP MACRO state_after(type) AS
CASE WHEN type IN ('task.retried', 'task.returned') THEN 'waiting' ELSE substr(type, 6) END
