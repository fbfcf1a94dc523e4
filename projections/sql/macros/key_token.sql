-- The twin of `key_token` in schemas/ids.py: how the key of a limit or of a budget stands in subjects.
CREATE OR REPLACE TEMP MACRO key_token(key) AS CASE
    WHEN regexp_full_match(key, '[A-Za-z0-9_-]{1,128}') AND NOT regexp_full_match(key, 'k[0-9a-f]{32}') THEN key
    ELSE 'k' || left(sha256(key), 32)
END
