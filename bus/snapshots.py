"""Snapshots of what a coordinator holds: a cache, so that a restart need not read the whole log."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from fleetlog.bus.core import AgentState, Lease, Task
from fleetlog.bus.core.affinity import Place
from fleetlog.bus.core.budgets import BudgetState
from fleetlog.bus.core.credential import Credential
from fleetlog.bus.core.join import Join
from fleetlog.bus.core.limits import Limit
from fleetlog.bus.core.schedule import Schedule
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.log import EventLog
from fleetlog.bus.objects import Objects
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.budgets import Budget, Spent
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.events import LimitSet, ScheduleSet
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.questions import Answer, Question
from fleetlog.schemas.specs import Backoff, TaskSpec

logger = logging.getLogger("fleetlog.coordinator")

FOLD_VERSION: Final = 3
"""Raised when the same events come to mean another state; new fields are noticed without it."""
NAME: Final = "coordinator-snapshot"
PARTS: Final[dict[str, type[msgspec.Struct]]] = {
    "agents": AgentState,
    "joins": Join,
    "limits": Limit,
    "budgets": BudgetState,
    "credentials": Credential,
    "schedules": Schedule,
    "places": Place,
}
"""What a fold consists of beside its tasks."""
_PIECE_BYTES: Final = 1024 * 1024


class _Head(msgspec.Struct, frozen=True):
    stamp: str
    fleet: str
    seq: int
    stored_at_ns: int
    """Of event `seq`, which must be the same in the log that the snapshot is used with."""
    subject: str
    counts: dict[str, int]
    """So many lines follow of each of `PARTS`, in this order; then those of tasks."""


class Snapshots:
    """Saves and loads one fleet's snapshot: one, the newest.

    Args:
        objects: where it is kept.
        log: whose state it is.
    """

    def __init__(self, objects: Objects, log: EventLog) -> None:
        self._objects = objects
        self._log = log

    async def save(self, unsettled: Unsettled) -> None:
        """Stores the state as it is at the time of the call.

        Raises:
            FleetlogError: it is not stored, and the one before may be gone: the next start takes longer.
        """
        parts = unsettled.parts()
        tasks = list(unsettled.tasks.values())
        seq, violation_count = unsettled.seq, unsettled.violation_count
        folded = unsettled.last
        last = await self._log.get(seq)
        if last is None or (folded is not None and folded != last):
            return  # the log has lost its last second, and the fold will hear of it
        counts = {name: len(parts[name]) for name in PARTS}
        head = _Head(stamp(), self._log.fleet, seq, last.stored_at_ns, last.subject, counts)
        items = chain([head, violation_count], *(parts[name] for name in PARTS), tasks)
        data = await asyncio.to_thread(_pack, items)
        await self._objects.save(NAME, data)
        logger.info("saved a snapshot at event %d: %d tasks, %d bytes", seq, len(tasks), len(data))

    async def load(self) -> Unsettled | None:
        """The state as it was saved last; None when there is none that fits this version, fleet and log."""
        try:
            data = await self._objects.load(NAME)
            if data is None:
                return None
            lines = _lines(data)
            head = msgspec.json.decode(next(lines, b""), type=_Head)
            there = await self._log.get(head.seq)
            if (why := self._mismatch(head, there)) is not None:
                logger.info("the snapshot is of no use: %s", why)
                return None
            restored = await asyncio.to_thread(_restored, head, lines)
        except (FleetlogError, msgspec.DecodeError, zlib.error) as error:
            logger.warning("the snapshot can't be used, the whole log is read: %s", error)
            return None
        restored.last = there
        return restored

    def _mismatch(self, head: _Head, there: Stored | None) -> str | None:
        if head.stamp != stamp():
            return "another version made it"
        if head.fleet != self._log.fleet:
            return f"it is of fleet {head.fleet}"
        if there is None or (there.stored_at_ns, there.subject) != (
            *(head.stored_at_ns, head.subject),
        ):
            return "it is of another log"
        return None


def stamp() -> str:
    """What this version's states look like."""
    kinds: tuple[type[msgspec.Struct], ...] = (
        *(Task, Lease, TaskSpec, Backoff, FanOutSpec, Member, Budget, Spent, LimitSet),
        *(ScheduleSet, Question, Answer),
        *PARTS.values(),
    )
    fields = [kind.__struct_fields__ for kind in kinds]
    return f"{FOLD_VERSION}-{zlib.crc32(repr(fields).encode()):08x}"


def _pack(items: Iterable[object]) -> bytes:
    # JSON, not MessagePack: the arguments of tasks are raw JSON.
    packer = zlib.compressobj(1)
    pieces = []
    for item in items:
        pieces.append(packer.compress(msgspec.json.encode(item)))
        pieces.append(packer.compress(b"\n"))
    return b"".join((*pieces, packer.flush()))


def _lines(data: bytes) -> Iterator[bytes]:
    """Line by line, so that the whole text is never held, nor kept alive by a task's arguments."""
    unpacker = zlib.decompressobj()
    rest = b""
    while data or not unpacker.eof:
        piece = unpacker.decompress(data, _PIECE_BYTES)
        data = unpacker.unconsumed_tail
        if not piece and not data and not unpacker.eof:
            raise zlib.error("it ends too early")
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _restored(head: _Head, lines: Iterator[bytes]) -> Unsettled:
    unsettled = Unsettled()
    unsettled.violation_count = msgspec.json.decode(next(lines, b""), type=int)
    parts = {
        name: [msgspec.json.decode(next(lines, b""), type=kind) for _ in range(head.counts[name])]
        for name, kind in PARTS.items()
    }
    task_decoder = msgspec.json.Decoder(Task)
    unsettled.restore(head.seq, map(task_decoder.decode, lines), parts)
    return unsettled
