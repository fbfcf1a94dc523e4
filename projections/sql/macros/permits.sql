-- The twin of `permits` in bus/core/evolve.py: whether task state s allows event e. Never NULL.
CREATE OR REPLACE TEMP MACRO permits(s, e) AS coalesce(
    CASE e.type
        WHEN 'task.held' THEN s.state IN ('absent', 'held', 'queued', 'waiting')
        WHEN 'task.queued' THEN s.state IN ('absent', 'held', 'queued', 'waiting')
        WHEN 'task.claimed' THEN
            e.offer = s.offer
            AND CASE s.state
                WHEN 'queued' THEN e.over IS NULL
                WHEN 'claimed' THEN e.over = s.fence
            END
        WHEN 'task.retried' THEN e.fence = s.fence
        WHEN 'task.returned' THEN e.fence = s.fence
        WHEN 'task.completed' THEN e.fence = s.fence OR s.state = 'absent'
        WHEN 'task.failed' THEN
            e.fence = s.fence
            OR (e.fence IS NULL AND s.state IN ('held', 'queued', 'waiting'))
            OR s.state = 'absent'
        WHEN 'task.cancelled' THEN
            e.fence = s.fence
            OR (e.fence IS NULL AND s.state IN ('held', 'queued', 'waiting'))
            OR s.state = 'absent'
        WHEN 'task.expired' THEN
            (e.fence IS NULL AND s.state IN ('held', 'queued', 'waiting')) OR s.state = 'absent'
        WHEN 'task.cancel_requested' THEN s.state = 'claimed' AND NOT s.is_cancel_requested
    END,
    false
)
