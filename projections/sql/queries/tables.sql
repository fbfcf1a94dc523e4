SELECT
    r.name AS "table",
    r.kind,
    r.comment AS about,
    c.column_name AS "column",
    c.data_type AS type,
    c.comment AS column_about
FROM (
    SELECT table_name AS name, table_oid AS oid, 'table' AS kind, comment
    FROM duckdb_tables()
    WHERE schema_name = 'main' AND NOT internal
    UNION ALL
    SELECT view_name, view_oid, 'view', comment
    FROM duckdb_views()
    WHERE schema_name = 'main' AND NOT internal
) AS r
JOIN duckdb_columns() AS c ON c.table_name = r.name AND c.schema_name = 'main' AND NOT c.internal
ORDER BY r.name, c.column_index
