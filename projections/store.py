"""The projection's database: opened or made anew, changed a batch at a time, copied for readers."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from fleetlog.bus.errors import ProjectionDamaged, ProjectionError
from fleetlog.projections.batches import Batch, pack
from fleetlog.projections.digests import Digest, digest_tables
from fleetlog.projections.files import discard, set_aside
from fleetlog.projections.schema import create, has_layout, prepare
from fleetlog.projections.statements import statement
from fleetlog.schemas.beats import StoredBeat
from fleetlog.schemas.envelope import Stored

HEARTBEATS_KEPT_S: Final = 900
"""How long heartbeats stay."""

_STEPS: Final = (
    *("add_derived", "parse_batch", "read_specs"),
    *("judge_tasks", "fold_unusual", "fold_tasks", "add_events"),
)
_STEPS_OF_KIND: Final = {
    "task": (
        *("change_tasks", "end_attempts", "add_attempts"),
        *("remove_changed", "add_open", "add_settled"),
    ),
    "agent": ("merge_agents",),
    "worker": ("merge_workers",),
    "queue": ("merge_queues",),
    "limit": ("merge_limits",),
}
_STEPS_OF_BARRIERS: Final = (
    *("open_barriers", "add_barriers", "add_members"),
    *("end_barriers", "close_barriers", "add_outcomes"),
)
_KINDS: Final = """
SELECT
    kind,
    kind = 'task' AND bool_or(j.allowances IS NOT NULL),
    kind = 'barrier' OR kind = 'task' AND bool_or(j.fan_out IS NOT NULL),
    kind = 'budget'
    OR kind = 'task' AND (
        EXISTS (SELECT 1 FROM specs WHERE budget IS NOT NULL)
        OR EXISTS (SELECT 1 FROM store.known_budgets)
    )
FROM batch GROUP BY kind
"""
_TEMPORARY: Final = (
    *("batch", "specs", "judged", "refolded", "folded", "changed", "attempts_ended"),
    *("opened", "ended", "said"),
)
_ABOUT_DATA: Final = (duckdb.DataError, duckdb.InvalidInputException)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ADVICE: Final = "check the folder, or choose another one with --data"
_DAMAGED: Final = "Corrupt "
"""So begins what DuckDB says about a block whose checksum is wrong; it has no class of its own for it."""
_FULL: Final = "No space left on device"

_logger = logging.getLogger(__name__)


class Checkpoint(msgspec.Struct, frozen=True):
    """The last message that the projection holds; all zero before the first."""

    seq: int
    """Its place in the log."""
    stored_at_ns: int
    """When the server stored it: with the subject it tells this log from another one."""
    subject: str
    """Its subject."""


class Store:
    """One open database. Not for two threads at once, `snapshot` excepted."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, fleet: str) -> None:
        self.path = path
        self._connection = connection
        self.fleet = fleet
        self._failure: ProjectionError | None = None
        self._parsed: dict[str, duckdb.Statement] = {}
        self.generation = 0
        """Counts the changes made through this object."""

    @property
    def checkpoint(self) -> Checkpoint:
        """How far the rows go."""
        ((seq, stored_at_ns, subject),) = self._connection.execute(
            "SELECT checkpoint, checkpoint_ns, checkpoint_subject FROM store.meta"
        ).fetchall()
        return Checkpoint(seq, stored_at_ns, subject)

    def apply(self, messages: Sequence[Stored]) -> None:
        """See `add`."""
        self.add(Batch.of(messages))

    def add(self, batch: Batch) -> None:
        """Adds messages, in order, in one transaction with the checkpoint.

        Messages at or below the checkpoint are skipped. One that DuckDB stumbles over is kept as unreadable: no
        message stops a projection.

        Raises:
            ProjectionDamaged: the file is damaged; nothing of the batch is in it.
            ProjectionError: the folder cannot be written or the disk is full; neither is then.
        """
        if self._failure is not None:
            # What failed is missing, so nothing may follow it.
            raise self._failure
        try:
            self._transact(batch)
        except _ABOUT_DATA as error:
            self._halve(batch, first_line(error))
        except duckdb.Error as error:
            if isinstance(error, duckdb.OutOfMemoryException) and len(batch) > 1:
                self._halve(batch, first_line(error))
                return
            self._failure = _failure_of(self.path, error)
            raise self._failure from None
        self.generation += 1

    def add_beats(self, beats: Sequence[StoredBeat]) -> None:
        """Adds heartbeats and forgets old ones. Raises as `apply` does."""
        text = msgspec.json.encode(beats).decode()
        try:
            self._step("add_beats", [text])
            self._step("drop_old_beats", [HEARTBEATS_KEPT_S])
        except duckdb.Error as error:
            raise _failure_of(self.path, error) from None
        self.generation += 1

    def digests(self) -> dict[str, Digest]:
        """See `digest_tables`."""
        return digest_tables(self._connection)

    def snapshot(self, target: Path, *, made_at: datetime) -> int:
        """Writes a consistent copy to `target`, replacing what is there; answers its checkpoint.

        May run in another thread while batches go on. Readers of a replaced copy keep it.

        Raises:
            ProjectionDamaged: the file that is copied is damaged.
            ProjectionError: the folder cannot be written, or the disk is full.
        """
        fresh = target.with_name(f"{target.stem}-new{target.suffix}")
        discard(fresh)
        try:
            with self._connection.cursor() as cursor:
                seq = _copy(cursor, fresh, made_at)
        except duckdb.Error as error:
            raise _failure_of(fresh, error) from None
        fresh.replace(target)
        return seq

    def close(self) -> None:
        """Writes everything into the one file and lets go of it; after a failure it only lets go.

        Raises:
            ProjectionError: the file cannot be written; what was committed stands beside it and is not lost.
        """
        try:
            if self._failure is None:
                self._connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise _failure_of(self.path, error) from None
        finally:
            self._connection.close()

    def abandon(self) -> None:
        """Lets go of a file that nobody needs any more."""
        self._connection.close()

    def _halve(self, batch: Batch, why: str) -> None:
        messages = batch.messages()
        if len(messages) == 1:
            _logger.warning("event %d is kept unread: %s", messages[0].seq, why)
            self._transact(Batch([pack(messages, problem=why)]))
            return
        middle = len(messages) // 2
        self.apply(messages[:middle])
        self.apply(messages[middle:])

    def _transact(self, batch: Batch) -> None:
        connection = self._connection
        connection.register("incoming", batch)
        try:
            connection.execute("BEGIN")
            for step in _STEPS:
                self._step(step)
            kinds = connection.execute(_KINDS).fetchall()
            for kind, has_allowances, *_ in kinds:
                for step in _STEPS_OF_KIND.get(kind, ()):
                    self._step(step)
                if has_allowances:
                    self._step("merge_allowances")
            if any(has_barriers for _, _, has_barriers, _ in kinds):
                for step in _STEPS_OF_BARRIERS:
                    self._step(step)
            if any(has_budgets for *_, has_budgets in kinds):
                for step in _steps_of_budgets({kind for kind, *_ in kinds}):
                    self._step(step)
            self._step("move_checkpoint")
            connection.execute("COMMIT")
            # Replaced in the next transaction, they would be held until its end: twice the memory.
            for table in _TEMPORARY:
                connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
        except duckdb.Error:
            _roll_back(connection)
            raise
        finally:
            connection.unregister("incoming")

    def _step(self, name: str, values: Sequence[object] = ()) -> None:
        """Runs `sql/steps/<name>.sql`, parsed once: parsing is a fifth of what a small batch costs."""
        parsed = self._parsed.get(name)
        if parsed is None:
            (parsed,) = self._connection.extract_statements(statement(f"steps/{name}"))
            self._parsed[name] = parsed
        self._connection.execute(parsed, values)


def open_store(path: Path, fleet: str) -> Store:
    """Opens the database of a fleet; makes an empty one if there is none, it cannot be read, or it is another
    version's or another fleet's.

    Raises:
        ProjectionError: another process has it open, or the folder cannot be written.
    """
    _make_folder(path.parent)
    try:
        store = _open_existing(path, fleet) if path.exists() else None
    except duckdb.Error as error:
        _raise_if_taken(path, error)
        aside = set_aside(path)
        _logger.warning(
            "%s could not be opened (%s): it is now %s, and a new one is built from the log",
            *(path, first_line(error), aside),
        )
        store = None
    return store or create_store(path, fleet)


def create_store(path: Path, fleet: str) -> Store:
    """Makes an empty database in place of whatever is there.

    Raises:
        ProjectionError: the folder cannot be written.
    """
    discard(path)
    try:
        connection = _connect(path)
        create(connection, fleet)
        prepare(connection)
    except duckdb.Error as error:
        _raise_if_taken(path, error)
        raise ProjectionError(f"cannot create {path}: {first_line(error)}; {_ADVICE}") from error
    return Store(path, connection, fleet)


def first_line(error: BaseException) -> str:
    """What went wrong, without the picture of the statement that DuckDB draws below it."""
    return str(error).partition("\n")[0]


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _failure_of(path: Path, error: duckdb.Error) -> ProjectionError:
    # Raised without DuckDB's error as its cause: the frames of that one would keep the database open.
    why = first_line(error)
    if _DAMAGED in why:
        return ProjectionDamaged(
            f"the projection is damaged ({why}): it is built anew from the log"
        )
    advice = "make room on its disk" if _FULL in why else _ADVICE
    return ProjectionError(f"cannot write {path}: {why}; {advice}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectionError(f"cannot make the folder {folder}: {error}; {_ADVICE}") from error


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(path),
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            # With the default of 16 MB nearly every larger batch would rewrite the file.
            "checkpoint_threshold": "256MB",
            # What a full piece of the log needs; a piece that needs more is halved.
            "memory_limit": "320MB",
            # A batch is one row group, which DuckDB gives to one thread: more cost a fifth more processor time
            # and are hardly faster.
            "threads": "1",
        },
    )


def _open_existing(path: Path, fleet: str) -> Store | None:
    connection = _connect(path)
    try:
        is_ours = has_layout(connection, fleet)
    except duckdb.Error:
        connection.close()
        raise
    if not is_ours:
        connection.close()
        _logger.warning(
            "%s was made by another version or for another fleet: it is built anew from the log",
            path,
        )
        return None
    prepare(connection)
    return Store(path, connection, fleet)


def _copy(cursor: duckdb.DuckDBPyConnection, target: Path, made_at: datetime) -> int:
    ((name,),) = cursor.execute("SELECT current_database()").fetchall()
    cursor.execute(f"ATTACH {quoted(str(target))} AS snapshot")
    try:
        cursor.execute(f'COPY FROM DATABASE "{name}" TO snapshot')
        made_us = (made_at - _EPOCH) // timedelta(microseconds=1)
        cursor.execute(f"CREATE TABLE snapshot.store.snapshot AS SELECT {made_us} AS made_us")
        ((seq,),) = cursor.execute("SELECT checkpoint FROM snapshot.store.meta").fetchall()
    finally:
        cursor.execute("DETACH snapshot")
    return int(seq)


def _raise_if_taken(path: Path, error: duckdb.Error) -> None:
    if "lock" in str(error) and isinstance(error, duckdb.IOException):
        raise ProjectionError(
            f"another process has {path} open, most likely another projector: stop it, or give this one its own"
            " folder with --data"
        ) from error


def _steps_of_budgets(kinds: Set[str]) -> tuple[str, ...]:
    charges = ("charge_budgets",) if "task" in kinds else ()
    return ("hear_budgets", *charges, "merge_budgets")


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # The transaction is gone already, or the database is: the error at hand says which.
        _logger.debug("no transaction to roll back", exc_info=True)
