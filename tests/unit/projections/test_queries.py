"""One query in the child: what it may ask, and how the rows come back. (Its limits: the integration tests.)"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.stores import empty_store

from fleetlog.projections.query import SqlHeader, SqlRequest
from fleetlog.projections.query_child import Answer, Work, answer
from tests.unit.projections.histories import FLEET, Log

MADE_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshot")
    store = empty_store(folder / "projection.duckdb", FLEET)
    log = Log()
    for number in range(5):
        log.run(f"t{number}")
    store.apply(log.messages)
    store.snapshot(folder / "snapshot.duckdb", made_at=MADE_AT)
    store.close()
    return folder / "snapshot.duckdb"


Ask = Callable[..., tuple[Answer, bytes]]


@pytest.fixture
def ask(snapshot: Path, tmp_path: Path) -> Ask:
    def ask_once(sql: str = "", **fields: Any) -> tuple[Answer, bytes]:
        result = tmp_path / "result"
        result.unlink(missing_ok=True)
        request = SqlRequest(sql=sql, **fields)
        said = answer(Work(request=request, snapshot=str(snapshot), result=str(result)))
        return said, result.read_bytes() if said.header else b""

    return ask_once


def header(said: Answer) -> SqlHeader:
    assert said.header is not None, said
    return said.header


def test_an_answer_says_how_far_it_goes_and_when_that_was(ask: Ask) -> None:
    said, _ = ask("SELECT 1")
    assert header(said).seq == 15
    assert header(said).snapshot_at == MADE_AT


def test_json_is_one_array_of_row_objects(ask: Ask) -> None:
    said, data = ask("SELECT task_id, settled_at, result FROM tasks ORDER BY task_id DESC LIMIT 2")
    assert json.loads(data) == [
        {"task_id": "t4", "settled_at": "2026-01-01T00:00:15Z", "result": None},
        {"task_id": "t3", "settled_at": "2026-01-01T00:00:12Z", "result": None},
    ]
    assert header(said).rows == 2
    assert header(said).size_bytes == len(data)
    assert [(c.name, c.type) for c in header(said).columns][1:] == [
        ("settled_at", "TIMESTAMP WITH TIME ZONE"),
        ("result", "JSON"),
    ]


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("1.10::DECIMAL(10, 2)", "1.10"),
        ("170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
        ("-9223372036854775809::HUGEINT", "-9223372036854775809"),
        ("18446744073709551615::UBIGINT", "18446744073709551615"),
        ("'nan'::DOUBLE", "null"),
        ("'infinity'::FLOAT", "null"),
        ("0.1::DOUBLE", "0.1"),
        ("NULL", "null"),
        ("true", "true"),
        ("'é\"\n'", '"é\\"\\n"'),
        ("'\\x00\\xFF'::BLOB", '"AP8="'),
        ("'{\"a\": [1]}'::JSON", '{"a": [1]}'),
        ("[1, NULL, 3]", "[1,null,3]"),
        ("{'a': 1, 'b': [2]}", '{"a":1,"b":[2]}'),
        ("MAP {'k': 1.5}", '{"k":1.5}'),
        ("MAP {1: 'x'}", '{"1":"x"}'),
        ("DATE '2026-01-02'", '"2026-01-02"'),
        ("TIMESTAMP '2026-01-02 03:04:05.5'", '"2026-01-02T03:04:05.500000"'),
        ("TIMESTAMPTZ '2026-01-02 03:04:05.5+02'", '"2026-01-02T01:04:05.500000Z"'),
        ("{'t': [TIMESTAMPTZ '2026-01-02 03:04:05Z']}", '{"t":["2026-01-02T03:04:05Z"]}'),
        ("MAP {TIMESTAMPTZ '2026-01-02 03:04:05Z': 1}", '{"2026-01-02T03:04:05Z":1}'),
        ("TIME '03:04:05'", '"03:04:05"'),
        ("INTERVAL 1 DAY", '"P1D"'),
        ("'00000000-0000-0000-0000-000000000001'::UUID", '"00000000-0000-0000-0000-000000000001"'),
        ("'101'::BIT", '"101"'),
        ("'a'::ENUM ('a', 'b')", '"a"'),
    ],
)
def test_values_are_exact(ask: Ask, expression: str, shown: str) -> None:
    said, data = ask(f"SELECT {expression} AS x")
    assert data.decode() == f'[{{"x":{shown}}}]\n', said


def test_columns_of_one_name_are_told_apart(ask: Ask) -> None:
    _, data = ask("SELECT 1 AS a, 2 AS a, 3 AS a_1")
    assert json.loads(data) == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_no_rows_are_an_empty_array(ask: Ask) -> None:
    said, data = ask("SELECT 1 WHERE false")
    assert data == b"[]\n"
    assert header(said).rows == 0


def test_csv_has_a_head_and_leaves_null_empty(ask: Ask) -> None:
    _, data = ask(
        "SELECT NULL AS n, 'a,b' AS s, [1] AS l, true AS t, 'nan'::DOUBLE AS f, 'x' AS x",
        format="csv",
    )
    assert list(csv.reader(io.StringIO(data.decode()))) == [
        ["n", "s", "l", "t", "f", "x"],
        ["", "a,b", "[1]", "true", "", "x"],
    ]


def test_rows_are_an_array_per_line(ask: Ask) -> None:
    _, data = ask("FROM range(3) AS t (n)", format="rows")
    assert data == b"[0]\n[1]\n[2]\n"


def test_parquet_can_be_read_back(ask: Ask, tmp_path: Path) -> None:
    said, data = ask("SELECT task_id, settled_at FROM tasks", format="parquet")
    assert (header(said).rows, data[:4]) == (5, b"PAR1")


@pytest.mark.parametrize("kind", ["json", "csv", "rows", "parquet"])
@pytest.mark.parametrize(
    ("rows_max", "count", "is_truncated"), [(2, 2, True), (5, 5, False), (9, 5, False)]
)
def test_rows_beyond_the_limit_are_left_out_and_said_so(
    ask: Ask, kind: str, rows_max: int, count: int, is_truncated: bool
) -> None:
    said, _ = ask("FROM tasks", format=kind, rows_max=rows_max)
    assert (header(said).rows, header(said).is_truncated) == (count, is_truncated)


def test_order_survives(ask: Ask) -> None:
    _, data = ask("SELECT range AS n, now() AS at FROM range(30000) ORDER BY n DESC")
    assert [row["n"] for row in json.loads(data)] == [*reversed(range(30000))]


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE tasks",
        "SHOW TABLES",
        "SUMMARIZE tasks",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "FROM tasks",
        "TABLE tasks",
        "VALUES (1)",
        "WITH x AS (SELECT 1) FROM x",
        "SELECT 1;",
        "SELECT ';' ; -- the end;",
        "SELECT 1 -- no semicolon",
        "SELECT /* ; */ 1 /* a */",
    ],
)
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_whatever_reads_is_allowed(ask: Ask, sql: str, kind: str) -> None:
    said, data = ask(sql, format=kind)
    assert header(said).rows > 0
    assert data


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("", "one SQL statement, not 0"),
        ("-- nothing", "one SQL statement, not 0"),
        ("SELECT 1; SELECT 2", "one SQL statement, not 2"),
        ("INSERT INTO heartbeats VALUES (1)", "INSERT"),
        ("DROP TABLE events", "DROP"),
        ("CREATE TEMP TABLE x (a INTEGER)", "CREATE"),
        ("CREATE MACRO count(x) AS 1", "CREATE"),
        ("SET memory_limit = '9GB'", "SET"),
        ("ATTACH 'x.duckdb'", "ATTACH"),
        ("COPY tasks TO 'x.csv'", "COPY"),
        ("INSTALL httpfs", "LOAD"),
        ("PRAGMA database_list", "PRAGMA"),
        ("CALL duckdb_settings()", "CALL"),
        ("CHECKPOINT", "CALL"),
        ("BEGIN", "TRANSACTION"),
        ("PREPARE x AS SELECT 1", "PREPARE"),
        ("FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM glob('/*')", "disabled by configuration"),
        ("SELECT content FROM read_text('/etc/hostname')", "disabled by configuration"),
        ("WITH x AS (DELETE FROM heartbeats RETURNING *) FROM x", "read-only"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("FROM taskz", 'Did you mean "tasks"?'),
        ("SELECT stat FROM tasks", 'Candidate bindings: "state"'),
        ("SELECT $1", "Values were not provided"),
        ("SELECT 'a'::INTEGER", "Could not convert"),
        ("SELECT error('mine')", "mine"),
        ("SELECT 1) TO 'x.csv' (FORMAT csv); --", "syntax error"),
    ],
)
def test_everything_else_is_refused_with_a_reason(ask: Ask, sql: str, why: str) -> None:
    said, _ = ask(sql)
    assert said.header is None
    assert why in str(said.invalid), said


def test_an_explanation_is_no_parquet(ask: Ask) -> None:
    said, _ = ask("EXPLAIN SELECT 1", format="parquet")
    assert "another format" in str(said.invalid)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(range) FROM range(300000000)",
        "SELECT range FROM range(900000000) ORDER BY hash(range)",
    ],
)
def test_too_much_memory_is_a_clear_failure(ask: Ask, sql: str) -> None:
    said, _ = ask(sql)
    assert "512 MiB" in str(said.failed)


def test_too_much_time_is_a_clear_failure(ask: Ask) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7"
    said, _ = ask(endless, timeout_s=0.2)
    assert "0.2 s" in str(said.failed)


def test_tables_are_listed_with_what_they_are(ask: Ask) -> None:
    _, data = ask(builtin="tables")
    listed = json.loads(data)
    assert {"table", "kind", "about", "column", "type", "column_about"} == set(listed[0])
    assert all(row["about"] and row["column_about"] for row in listed)
    tasks = [row["column"] for row in listed if row["table"] == "tasks"]
    assert tasks[:6] == ["task_id", "handler", "executor", "queue", "priority", "state"]
    assert not any(row["table"].startswith(("open_", "known_", "meta")) for row in listed)


def test_digests_are_listed(ask: Ask) -> None:
    _, data = ask(builtin="digests")
    listed = {row["table"]: row["rows"] for row in json.loads(data)}
    assert (listed["events"], listed["tasks"], listed["attempts"]) == (15, 5, 5)
