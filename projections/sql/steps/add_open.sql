INSERT INTO store.open_tasks BY NAME
SELECT * EXCLUDE (settle_seq) FROM changed WHERE settle_seq IS NULL
