DELETE FROM store.open_tasks WHERE task_id IN (SELECT task_id FROM changed)
