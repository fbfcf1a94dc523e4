-- Whether an event of this type can be an attempt's end.
CREATE OR REPLACE TEMP MACRO ends_attempt(type) AS
type IN ('task.completed', 'task.failed', 'task.cancelled', 'task.retried', 'task.returned')
