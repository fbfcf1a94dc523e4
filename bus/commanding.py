"""Carries out the coordinator's commands for single tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.bus.core import Refusal, Return, Task, decide
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.errors import ConflictError, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.events import TaskCancelRequested, TerminalEvent, Usage

logger = logging.getLogger("fleetlog.coordinator")

AGAIN_S: Final = 1.0


class Commander:
    """Decides a task's command and appends the event.

    Args:
        fleet: whose log.
        put_back: called with a task whose command could not be appended, and when that was.
    """

    def __init__(self, fleet: Fleet, put_back: Callable[[Task, datetime], None]) -> None:
        self._fleet = fleet
        self._put_back = put_back

    async def do(self, task: Task, command: AnyCommand) -> None:
        """Does it, unless another event was first; what can't be done for now comes again."""
        is_loss = isinstance(command, Return) and task.lease is not None
        try:
            if is_loss:
                command = msgspec.structs.replace(command, usage=await self._usage_of(task))
            event = decide(command, task, self._fleet.log.now())
            if isinstance(event, Refusal):
                return
            await self._fleet.derived.ensure_for(event)
            seq = await self._fleet.log.append(
                entry(subject_of(self._fleet.name, task, event), task.version, event)
            )
        except ConflictError:
            return  # the event that was first is on its way to the fold
        except TransportError as error:
            logger.warning("task %s has to wait: %s", task.id, error)
            await self._fleet.system.clock.sleep(AGAIN_S)
            self._put_back(task, self._fleet.log.now())
            return
        if isinstance(event, TerminalEvent):
            self._fleet.hints.publish(task.id, seq)
        elif isinstance(event, TaskCancelRequested) and task.lease is not None:
            self._fleet.hints.publish(task.id, seq, to=task.lease.agent_id)
        if is_loss:
            self._end_delivery(task, seq)

    async def _usage_of(self, task: Task) -> Usage | None:
        """What the lost attempt had used when its agent last spoke."""
        assert task.lease is not None
        last = await self._fleet.beats.last(task.lease.agent_id)
        for worker in last.beat.workers if last is not None else ():
            if (worker.task_id, worker.attempt) == (task.id, task.lease.attempt):
                return worker.usage
        return None

    def _end_delivery(self, task: Task, seq: int) -> None:
        """The lost holder's offer is settled by the event at `seq`: nobody needs it delivered again."""
        assert task.lease is not None
        if task.lease.ack is not None:
            self._fleet.offers.ack(task.lease.ack)
        # Should the holder live after all, it ends what it runs the sooner.
        self._fleet.hints.publish(task.id, seq, to=task.lease.agent_id)
