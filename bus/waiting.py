"""Waiting for outcomes: of tasks, of what they lead to, and of barriers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from fleetlog.bus.errors import TaskNotFound, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import Outcome, barrier_outcome, outcome_of, with_result
from fleetlog.bus.submit_options import Duration, seconds_of
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import TaskCompleted, TerminalEvent
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import guard

logger = logging.getLogger("fleetlog.bus")

AGAIN_S: Final = 1.0
"""How soon it looks again when the log did not answer."""
POLL_S: Final = 2.0
"""How often a waiting client looks at the log although no hint came."""
T = TypeVar("T")


class Waiting:
    """Looks at the log, woken by hints, with a slow poll behind them. A task that fanned out is followed.

    Args:
        fleet: whose log.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def result(
        self,
        task_id: str,
        timeout: Duration | None = None,
        *,
        is_fetched: bool = True,
        is_follower: bool = False,
    ) -> Outcome:
        """See `Client.result`; for `is_follower`, `settled`."""
        check_id(task_id, "task id")
        async with asyncio.timeout(seconds_of(timeout)):
            outcome = await self._follow(task_id, is_follower=is_follower)
            if not is_fetched:
                return outcome
            return await self._until(task_id, partial(with_result, outcome, self._fleet.objects))

    async def outcome(self, task_id: str, *, is_fetched: bool = True) -> Outcome | None:
        """See `Client.outcome`."""
        current = check_id(task_id, "task id")
        settled = await self.settled(current)
        while settled is not None and (fan_out := fan_out_of(settled)) is not None:
            if fan_out.then is None:
                ended = await self._ended(current)
                return ended and msgspec.structs.replace(ended, task_id=task_id)
            current = fan_out.then.task_id
            settled = await self.settled(current, is_follower=True)
        if settled is None:
            return None
        outcome = outcome_of(task_id, settled)
        return await with_result(outcome, self._fleet.objects) if is_fetched else outcome

    async def barrier_end(self, barrier_id: str) -> Outcome:
        """See `Client.barrier_end`."""
        return await self._until(barrier_id, partial(self._ended, check_id(barrier_id)))

    async def settled(self, task_id: str, *, is_follower: bool = False) -> TerminalEvent | None:
        """The task's terminal event, None while it has none.

        Args:
            task_id: the task.
            is_follower: it may not be there yet, as nobody has made it.

        Raises:
            TaskNotFound: there is no such task.
        """
        last = await self._fleet.log.last(guard(self._fleet.name, "task", task_id))
        if last is None and not is_follower:
            raise TaskNotFound(
                f"there is no task {task_id} in fleet {self._fleet.name};"
                " `fleetlog task list` shows what there is"
            )
        event = open_stored(last).event if last is not None else None
        return event if isinstance(event, TerminalEvent) else None

    async def _follow(self, task_id: str, *, is_follower: bool) -> Outcome:
        current = task_id
        while True:
            look = partial(self.settled, current, is_follower=is_follower)
            settled: TerminalEvent = await self._until(current, look)
            if (fan_out := fan_out_of(settled)) is None:
                return outcome_of(task_id, settled)
            if fan_out.then is None:
                ended = await self.barrier_end(current)
                return msgspec.structs.replace(ended, task_id=task_id)
            current, is_follower = fan_out.then.task_id, True

    async def _ended(self, barrier_id: str) -> Outcome | None:
        last = await self._fleet.log.last(guard(self._fleet.name, "barrier", barrier_id))
        event = open_stored(last).event if last is not None else None
        return barrier_outcome(barrier_id, event)

    async def _until(self, about: str, look: Callable[[], Awaitable[T | None]]) -> T:
        """What `look` gives, tried again with each hint about a thing, through restarts of the server."""
        changed = asyncio.Event()
        async with self._fleet.hints.listen(about, lambda _id, _seq: changed.set()):
            while True:
                changed.clear()
                try:
                    if (found := await look()) is not None:
                        return found
                except Unavailable as error:
                    if self._fleet.link.is_connected:
                        logger.warning(
                            "the log does not answer, trying again until it does: %s", error
                        )
                    await self._fleet.link.wait_connected()
                    await _wait_for(changed, AGAIN_S)
                    continue
                await _wait_for(changed, POLL_S)


def fan_out_of(event: TerminalEvent) -> FanOutSpec | None:
    """What a task led to, if it fanned out."""
    return event.fan_out if isinstance(event, TaskCompleted) else None


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
