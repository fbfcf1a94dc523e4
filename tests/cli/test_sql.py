"""`fleetlog sql`."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, address

from fleetlog.bus.embedded.server import EmbeddedServer

ROWS = "SELECT * FROM (VALUES (1, 'one', NULL), (20, 'two [bold]', true)) AS t (n, name, flag)"


def test_table_in_a_pipe_is_aligned_plain_text(cli: CommandLine) -> None:
    ran = cli("sql", ROWS)
    assert ran.out == ("n   name        flag\n1   one         NULL\n20  two [bold]  true\n")
    assert ran.err.startswith("as of seq ")


def test_table_on_a_terminal_is_drawn(cli: CommandLine) -> None:
    ran = cli.on_terminal("sql", ROWS)
    assert "─" in ran.out
    assert "two [bold]" in ran.out
    assert "as of seq" in ran.out


def test_json_is_an_array_of_rows(cli: CommandLine) -> None:
    expected = [
        {"n": 1, "name": "one", "flag": None},
        {"n": 20, "name": "two [bold]", "flag": True},
    ]
    assert cli("sql", ROWS, "--format", "json").value == expected
    assert cli("sql", ROWS, "--json").value == expected
    assert cli("sql", f"{ROWS} WHERE n > 99", "--json").value == []


def test_saved_queries_run_by_name(cli: CommandLine) -> None:
    assert cli("sql", "--saved", "active-tasks-by-host", "--json").value == []
    ran = cli.run("sql", "--saved", "active-task-by-host")
    assert (ran.code, "did you mean active-tasks-by-host" in ran.err) == (2, True)
    ran = cli.run("sql")
    assert (ran.code, "workers-by-host" in ran.err) == (2, True)


def test_saved_queries_tell_what_runs_where_and_how_it_ended(
    cli: CommandLine, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"

    def saved(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cli("sql", "--fresh", "--saved", name, "--json").value
        return found

    task_id = cli("submit", "until", json.dumps({"path": str(flag)})).out.strip()
    while cli("task", "show", task_id, "--json").value["state"] != "claimed":
        pass
    [active] = saved("active-tasks-by-host")
    assert (active["queue"], active["handler"], active["tasks"]) == ("default", "until", 1)
    [workers] = [row for row in saved("workers-by-host") if row["host"] == active["host"]]
    assert (workers["busy"], workers["agents"]) == (1, 1)
    flag.touch()
    while cli("task", "show", task_id, "--json").value["state"] != "completed":
        pass
    assert saved("active-tasks-by-host") == []
    of_host = [row for row in saved("outcomes-of-the-last-hour") if row["host"] == active["host"]]
    [completed] = [row for row in of_host if row["outcome"] == "completed"]
    assert completed["attempts"] >= 1
    assert completed["median_s"] >= 0


def test_csv(cli: CommandLine) -> None:
    rows = list(csv.reader(io.StringIO(cli("sql", ROWS, "--format", "csv").out)))
    assert rows == [["n", "name", "flag"], ["1", "one", ""], ["20", "two [bold]", "true"]]


def test_parquet_goes_to_a_file_by_its_ending(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    ran = cli("sql", ROWS, "--output", str(path))
    assert ran.out == ""
    assert path.read_bytes()[:4] == b"PAR1"
    ran = cli.on_terminal("sql", ROWS, "--format", "parquet")
    assert ran.code == 2
    assert "--output" in ran.out


def test_output_goes_to_a_file(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    cli("sql", "SELECT 1 AS one", "--output", str(path))
    assert path.read_text() == '[{"one":1}]\n'
    ran = cli.run("sql", "SELECT 1", "--output", str(tmp_path / "none" / "x.csv"))
    assert ran.code == 2
    assert "can't be written: No such file or directory" in ran.err


def test_statement_comes_from_stdin(cli: CommandLine) -> None:
    assert cli("sql", "-", stdin=b"SELECT 'x' AS y;\n").out == "y\nx\n"


def test_fresh_holds_what_is_in_the_log_now(cli: CommandLine, fleet: str) -> None:
    cli("submit", "quiet", "--queue", fleet)
    ran = cli(
        "sql", f"SELECT count(*) AS n FROM tasks WHERE queue = '{fleet}'", "--fresh", "--json"
    )
    assert ran.value == [{"n": 1}]


def test_tables_are_listed_with_their_columns(cli: CommandLine) -> None:
    ran = cli("sql", "--tables")
    assert "tasks (view): One row per task" in ran.out
    assert "  task_id  " in ran.out
    rows = cli("sql", "--tables", "--json").value
    assert {"events", "tasks", "attempts"} <= {row["table"] for row in rows}


def test_table_says_when_there_are_more_rows(cli: CommandLine) -> None:
    ran = cli("sql", "SELECT range FROM range(1001)")
    assert len(ran.out.splitlines()) == 1001
    assert "there are more rows" in ran.err
    assert len(cli("sql", "SELECT range FROM range(1001)", "--json").value) == 1001


def test_texts_cannot_move_the_cursor(cli: CommandLine) -> None:
    assert cli("sql", "SELECT chr(27) || '[2J' || chr(10) || 'x' AS y").out == "y\n\\x1b[2J x\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["SELEC 1"], "syntax error"),
        (["FROM task"], 'Did you mean "tasks"'),
        (["DROP TABLE events"], "begin with SELECT"),
        (["SELECT 1; SELECT 2"], "one SQL statement"),
        ([], "--tables"),
        (["SELECT 1", "--tables"], "--tables"),
        (["SELECT 1", "--format", "xml"], "format 'xml' is not one of table, json"),
        (["SELECT 1", "--output", "x.txt"], "format 'txt' is not one of"),
        (["SELECT 1", "--timeout", "1"], "timeout '1' is not a duration"),
        (["SELECT 1", "--timeout", "1h"], "10m"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_exit_code_2(cli: CommandLine, args: list[str], says: str) -> None:
    ran = cli.run("sql", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_query_that_takes_too_long_is_exit_code_1(cli: CommandLine) -> None:
    slow = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
    ran = cli.run("sql", slow, "--timeout", "300ms")
    assert ran.code == 1
    assert "stopped after 0.3 s" in ran.err


async def test_without_a_projector_it_says_how_to_start_one(
    nowhere: CommandLine, server: EmbeddedServer, fleet: str
) -> None:
    url = address(server.target)
    ran = await asyncio.to_thread(nowhere.run, "sql", "SELECT 1", "--url", url, "--fleet", fleet)
    assert ran.code == 3
    assert "no projector answers" in ran.err
    assert "fleetlog projector" in ran.err
