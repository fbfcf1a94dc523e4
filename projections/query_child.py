"""The process that runs one query of a stranger: it can read a snapshot, write one result file, no more.

DuckDB's own limits do not hold against every expression (a scalar function can take all memory and not hear an
interrupt), so the operating system's limits stand behind them, and whoever started it kills it in time.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from fleetlog.projections.digests import digest_tables
from fleetlog.projections.query import Column, SqlHeader, SqlRequest
from fleetlog.projections.rendering import write_rows
from fleetlog.projections.selecting import (
    Selection,
    columns_of,
    rows_of,
    select_only,
    write_parquet,
)
from fleetlog.projections.statements import statement
from fleetlog.schemas.errors import InvalidInput

MEMORY_MAX_BYTES: Final = 512 << 20
"""What DuckDB may use."""
ADDRESS_SPACE_MAX_BYTES: Final = 3 << 30
"""What the process may map, by which a runaway expression is stopped."""
RESULT_MAX_BYTES: Final = 1 << 30
"""The largest result."""
_FILES_MAX: Final = 64


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is started for; one line of JSON on its socket."""

    request: SqlRequest
    """The query."""
    snapshot: str
    """Path of the database."""
    result: str
    """Path of the file to write."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the child says in the end; one line of JSON, with one field set."""

    header: SqlHeader | None = None
    """The result stands in its file."""
    invalid: str | None = None
    """The statement is wrong."""
    failed: str | None = None
    """It needed too much."""


def main() -> None:
    """Reads `Work` from the socket whose descriptor is the argument, runs it, and writes `Answer`."""
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rwb") as line:
        work = msgspec.json.decode(line.readline(), type=Work)
        limit(work.request.timeout_s)
        line.write(msgspec.json.encode(answer(work)) + b"\n")
        line.flush()
    # Nothing is left to do; taking the interpreter down in order would only cost time.
    os._exit(0)


def limit(timeout_s: float) -> None:
    """Sets the operating system's limits; where one is not known, the others and the killing parent remain."""
    limits = {
        resource.RLIMIT_AS: ADDRESS_SPACE_MAX_BYTES,
        resource.RLIMIT_CPU: int(timeout_s * 2) + 2,
        resource.RLIMIT_FSIZE: RESULT_MAX_BYTES,
        resource.RLIMIT_NOFILE: _FILES_MAX,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in limits.items():
        try:
            resource.setrlimit(name, (value, value))
        except (OSError, ValueError):
            continue
    # If the parent is gone nobody kills this process, so its own alarm does, whatever it is busy with.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout_s + 5)


def answer(work: Work) -> Answer:
    """Runs the query; every failure becomes a message for whoever asked."""
    try:
        return Answer(header=_run(work))
    except InvalidInput as error:
        return Answer(invalid=str(error))
    except (duckdb.OutOfMemoryException, MemoryError):
        return Answer(
            failed=f"the query needs more than {MEMORY_MAX_BYTES >> 20} MiB of memory: select fewer rows or"
            " columns, or aggregate"
        )
    except duckdb.InterruptException:
        return Answer(
            failed=f"the query was stopped after {work.request.timeout_s:g} s: narrow it down, or allow it more"
            " time"
        )
    except (duckdb.IOException, OSError) as error:
        return Answer(failed=f"the result cannot be written: {error}")
    except duckdb.Error as error:
        return Answer(invalid=str(error).strip())


def connect(work: Work) -> duckdb.DuckDBPyConnection:
    """Opens the snapshot for reading only, with everything else locked away for good."""
    connection = duckdb.connect(
        work.snapshot,
        read_only=True,
        config={
            "allow_community_extensions": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "max_temp_directory_size": "0GB",
            "memory_limit": f"{MEMORY_MAX_BYTES >> 20}MiB",
            "temp_directory": "",
            "threads": "2",
        },
    )
    allowed = work.result.replace("'", "''")
    connection.execute(f"SET allowed_paths = ['{allowed}']")
    connection.execute("SET enable_external_access = false")
    connection.execute(f"SET max_execution_time = {int(work.request.timeout_s * 1000)}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _run(work: Work) -> SqlHeader:
    request = work.request
    with connect(work) as connection:
        ((seq, made_us),) = connection.execute(statement("queries/snapshot")).fetchall()
        selection = select_only(connection, _sql(connection, request))
        columns = columns_of(connection, selection)
        if request.format == "parquet":
            rows, is_truncated = write_parquet(connection, selection, work.result, request.rows_max)
        else:
            rows, is_truncated = _write(connection, selection, columns, work)
    return SqlHeader(
        seq=seq,
        snapshot_at=datetime.fromtimestamp(made_us / 1_000_000, UTC),
        columns=columns,
        rows=rows,
        is_truncated=is_truncated,
        size_bytes=Path(work.result).stat().st_size,
    )


def _write(
    connection: duckdb.DuckDBPyConnection,
    selection: Selection,
    columns: list[Column],
    work: Work,
) -> tuple[int, bool]:
    rows_max = work.request.rows_max
    rows = rows_of(connection, selection, columns, rows_max)
    with Path(work.result).open("wb") as file:
        count = write_rows(file, work.request.format, columns, islice(rows, rows_max))
    return count, next(rows, None) is not None


def _sql(connection: duckdb.DuckDBPyConnection, request: SqlRequest) -> str:
    match request.builtin:
        case "tables":
            return statement("queries/tables")
        case "digests":
            rows = ", ".join(
                f"('{name}', {digest.rows}, '{digest.sha256}')"
                for name, digest in digest_tables(connection).items()
            )
            return f'FROM (VALUES {rows}) AS digests ("table", rows, sha256)'
        case None:
            return request.sql


if __name__ == "__main__":
    main()
