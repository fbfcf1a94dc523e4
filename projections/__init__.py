"""DuckDB tables rebuilt from the log, and SQL over them. Only here duckdb is imported."""
