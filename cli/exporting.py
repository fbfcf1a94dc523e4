"""The log as JSON Lines."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fleetlog.bus.log import EventLog
from fleetlog.schemas.cloudevents import cloud_event
from fleetlog.schemas.envelope import Stored, UnknownEvent, open_stored
from fleetlog.schemas.errors import InvalidInput


class Part(msgspec.Struct, frozen=True):
    """Which events, and how."""

    after: int
    """Those behind this one."""
    until: int | None
    """Up to this one; None for the log's end."""
    is_cloudevents: bool
    """As CloudEvents."""


async def export_log(log: EventLog, part: Part, out: BinaryIO) -> int:
    """Writes a line for each event and answers how many; what comes meanwhile is not among them."""
    end = await log.end()
    until = end if part.until is None else min(part.until, end)
    count = 0
    with _progress(part.after, until) as advance:
        async for page in _pages(log, part.after, until):
            count += len(page)
            out.write(b"".join(_line(log.fleet, each, part) for each in page))
            advance(page[-1].seq)
    out.flush()
    return count


@contextmanager
def opened(path: Path | None) -> Iterator[BinaryIO]:
    """The file, or stdout. The file has its name only once all of it is written.

    Raises:
        InvalidInput: it can't be written there.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def exported(stored: Stored) -> dict[str, Any]:
    """One event with its place; one that this version can't read has `problem`, which says why.

    `event` is the payload as it was written; what is not JSON stands in `data_base64` instead.
    """
    record = open_stored(stored)
    fields: dict[str, Any] = {
        "seq": stored.seq,
        "stored_at": stored.stored_at,
        "subject": stored.subject,
    }
    if isinstance(record.event, UnknownEvent):
        fields["problem"] = record.event.why
    data = _json_line(stored.data)
    return fields | ({"data_base64": stored.data} if data is None else {"event": data})


def _line(fleet: str, stored: Stored, part: Part) -> bytes:
    if part.is_cloudevents:
        fields = cloud_event(fleet, stored, open_stored(stored), _json_line(stored.data))
    else:
        fields = exported(stored)
    return msgspec.json.encode(fields) + b"\n"


def _json_line(data: bytes) -> msgspec.Raw | None:
    """A JSON payload on one line, else as it is; None if it is not JSON in UTF-8."""
    try:
        data.decode()
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # A line break in JSON is white space: within a text it would be escaped.
    return msgspec.Raw(data.replace(b"\n", b" ").replace(b"\r", b" "))


async def _pages(log: EventLog, after: int, until: int) -> AsyncIterator[list[Stored]]:
    if after >= until:
        return
    async for page in log.read(after=after):
        wanted = [stored for stored in page if stored.seq <= until]
        if wanted:
            yield wanted
        if page[-1].seq >= until:
            return


@contextmanager
def _progress(after: int, until: int) -> Iterator[Callable[[int], None]]:
    """Where it is, on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _seq: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only for this
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("events", total=max(0, until - after))
        yield lambda seq: bar.update(task, completed=seq - after)
