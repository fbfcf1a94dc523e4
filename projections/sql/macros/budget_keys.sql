-- The twin of `TaskSpec.budget_keys` in schemas/specs.py: the budgets that what a task uses counts on.
CREATE OR REPLACE TEMP MACRO budget_keys(spec, task_id) AS
list_concat(coalesce(spec.budgets, []), CASE WHEN spec.budget IS NULL THEN [] ELSE [task_id] END)
