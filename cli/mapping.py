"""Submitting a task for each item, perhaps waiting for all outcomes, and telling."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import msgspec

from fleetlog.bus.background import background
from fleetlog.bus.client import Client
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.handles import Submitted
from fleetlog.bus.settings import Settings
from fleetlog.bus.task_set import TaskSet
from fleetlog.cli.failures import TIMED_OUT, say
from fleetlog.cli.items import Shape
from fleetlog.cli.lines import Line, is_rereadable, lines_of_file, lines_that_come
from fleetlog.cli.map_outcomes import MapOutcomes
from fleetlog.cli.rendering import write_json
from fleetlog.cli.requirements import note_missing
from fleetlog.cli.tally import LABEL, Tally
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec

_BREATH_ITEMS: Final = 500
"""So many items are read from a file before others on the event loop have their turn."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One map, as it was asked for."""

    shape: Shape
    """How an item becomes a task."""
    path: str
    """Where the items are; `-` for stdin."""
    is_waiting: bool
    """Wait for the outcomes."""
    wait_timeout_s: float | None
    """No longer than this, once all are submitted."""
    is_json: bool
    """For programs."""
    is_checked: bool
    """Refuse what no handler of the fleet would take."""


def check_file(wanted: Wanted) -> int | None:
    """Reads all items of a file and counts them; None for stdin and pipes, which can be read only once.

    Raises:
        InvalidInput: names the file, the line and the place in it.
    """
    if not is_rereadable(wanted.path):
        return None
    count = 0
    for line in lines_of_file(wanted.path):
        wanted.shape.task_of(line)
        count += 1
    return count


async def map_and_tell(settings: Settings, wanted: Wanted, total: int | None) -> int:
    """Submits, waits if wanted, and prints; answers the exit code.

    Args:
        settings: which fleet.
        wanted: the map.
        total: what `check_file` has counted.
    """
    async with Client.connect(settings=settings) as client:
        tally = Tally(client.fleet.system.new_id(), total)
        try:
            return await _Map(client, wanted, tally).run()
        except asyncio.CancelledError:
            say(tally.describe(is_cut_short=True))
            raise


class _Map:
    def __init__(self, client: Client, wanted: Wanted, tally: Tally) -> None:
        self._client = client
        self._wanted = wanted
        self._tally = tally
        self._shape = _labelled(wanted.shape, tally.map_id)
        self._outcomes = MapOutcomes(is_json=wanted.is_json)
        self._tasks = TaskSet(client.fleet, (LABEL, tally.map_id), self._outcomes.take)
        self._before: list[str] = []
        self._task_ids: list[str] = []

    async def run(self) -> int:
        if not self._wanted.is_waiting:
            with self._progress(None):
                await self._submit()
            self._tell_submitted()
            return 0
        after = await self._client.fleet.log.end()
        queue = self._shape.template.offered_on
        with self._progress(self._tasks):
            async with background(self._tasks.follow(after=after, queue=queue)):
                await self._submit()
                is_in_time = await self._wait(after, queue)
        self._outcomes.finish(self._tasks)
        if is_in_time:
            return self._outcomes.exit_code
        say(self._tally.describe())
        return TIMED_OUT

    def _progress(self, tasks: TaskSet | None) -> AbstractContextManager[object]:
        if not sys.stderr.isatty():
            return nullcontext()
        from fleetlog.cli.map_progress import MapProgress  # noqa: PLC0415 - rich, only where someone looks on

        return MapProgress(self._tally, tasks)

    async def _submit(self) -> None:
        source = _Source(self._client, self._wanted, self._shape)
        try:
            await source.check()
            async for submitted in self._client.submit_stream(source.specs()):
                source.pending.popleft()
                self._note(submitted)
        except (FleetlogError, InvalidInput) as error:
            # Answers come in the order of the items, so it is about the first one without an answer.
            place = f"{source.pending[0].place}: " if source.pending else ""
            source.refused = type(error)(f"{place}{error}")
        if source.refused is not None:
            say(self._tally.describe())
            raise source.refused
        if self._wanted.is_checked and self._client.handlers.is_empty and self._tally.submitted:
            say("no agent has run in this fleet yet; the tasks wait")
        await note_missing(self._client.fleet, self._shape.template)

    def _note(self, submitted: Submitted) -> None:
        task_id = submitted.task_id
        self._tally.note(submitted)
        if self._wanted.is_waiting:
            self._tasks.add(task_id)
            if submitted.is_duplicate:
                self._before.append(task_id)
            self._outcomes.expect(task_id, is_duplicate=submitted.is_duplicate)
        elif self._wanted.is_json:
            self._task_ids.append(task_id)
        else:
            sys.stdout.write(f"{task_id}\n")
            if self._tally.total is None:
                sys.stdout.flush()  # who reads it may write the next item for it

    async def _wait(self, after: int, queue: str) -> bool:
        """Whether all have settled in time."""
        try:
            async with asyncio.timeout(self._wanted.wait_timeout_s):
                elsewhere = await self._tasks.look_at(self._before) - {queue}
                follows = (self._tasks.follow(after=after, queue=each) for each in elsewhere)
                async with background(*follows):
                    await self._tasks.wait_settled()
        except TimeoutError:
            return False
        return True

    def _tell_submitted(self) -> None:
        if self._wanted.is_json:
            write_json(self._tally.as_json(self._task_ids))
        sys.stdout.flush()
        say(self._tally.describe())


class _Source:
    """The tasks of the items, as the log takes them."""

    def __init__(self, client: Client, wanted: Wanted, shape: Shape) -> None:
        self._client = client
        self._wanted = wanted
        self._shape = shape
        self.pending: deque[Line] = deque()
        """Items that were read and are not known to be in the log."""
        self.refused: FleetlogError | InvalidInput | None = None
        """Why the items ended before their end."""

    async def check(self) -> None:
        """Compares all items of a file with what agents take, before the first one is submitted."""
        if self._wanted.is_checked and is_rereadable(self._wanted.path):
            async for line, spec in self._tasks():
                await self._check(line, spec)

    async def specs(self) -> AsyncIterator[TaskSpec]:
        """Ends at the first item that is refused: those before it are submitted in order, then it is told."""
        is_checked = self._wanted.is_checked and not is_rereadable(self._wanted.path)
        try:
            async for line, spec in self._tasks():
                if is_checked:
                    await self._check(line, spec)
                self.pending.append(line)
                yield spec
        except (FleetlogError, InvalidInput) as error:
            self.refused = error

    async def _tasks(self) -> AsyncIterator[tuple[Line, TaskSpec]]:
        if not is_rereadable(self._wanted.path):
            async for line in lines_that_come(self._wanted.path):
                yield line, self._shape.task_of(line)
            return
        for line in lines_of_file(self._wanted.path):
            if line.item % _BREATH_ITEMS == 0:
                await asyncio.sleep(0)
            yield line, self._shape.task_of(line)

    async def _check(self, line: Line, spec: TaskSpec) -> None:
        try:
            await self._client.check(spec)
        except (FleetlogError, InvalidInput) as error:
            raise type(error)(f"{line.place}: {error}") from error


def _labelled(shape: Shape, map_id: str) -> Shape:
    labels = {**shape.template.labels, LABEL: map_id}
    template = msgspec.structs.replace(shape.template, labels=labels)
    return msgspec.structs.replace(shape, template=template)
