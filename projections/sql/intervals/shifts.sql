-- The times of the workers: in the fleet until `ended_us`, taking new work until `served_us`.
CREATE VIEW store.shifts AS
SELECT
    agent_id,
    worker_id,
    host,
    queues,
    began_us,
    greatest(began_us, ended_us) AS ended_us,
    greatest(began_us, least(ended_us, draining_us)) AS served_us
FROM (
    SELECT
        w.agent_id,
        w.worker_id,
        coalesce(w.host, a.host) AS host,
        coalesce(a.queues, []) AS queues,
        epoch_us(w.spawned_at) AS began_us,
        least(epoch_us(w.exited_at), epoch_us(a.ended_at), 253402300799999999) AS ended_us,
        epoch_us(a.draining_at) AS draining_us
    FROM store.known_workers AS w
    LEFT JOIN store.known_agents AS a USING (agent_id)
    WHERE w.spawned_at IS NOT NULL
)
