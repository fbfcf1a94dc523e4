"""What attempts want of the fleet while they run: tasks of their own, waited for or not."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.agents.frames import Gather, Gathered, Spawn
from fleetlog.agents.payloads import Payloads
from fleetlog.bus.children import load_children
from fleetlog.bus.client import Client
from fleetlog.bus.core import Task
from fleetlog.bus.errors import FleetlogError, Refused, TransportError
from fleetlog.bus.fanning_out import open_fan_out
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.children import Child
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import FanOutSpec, plan_under_budgets
from fleetlog.schemas.specs import TaskSpec, under_budgets

logger = logging.getLogger("fleetlog.agents")

_plan_decoder: Final = msgspec.json.Decoder(FanOutSpec)
_spec_decoder: Final = msgspec.json.Decoder(TaskSpec)


class Branching:
    """Does what attempts want, for as long as log and store need to come back.

    Args:
        fleet: where.
        payloads: how patient to be.
    """

    def __init__(self, fleet: Fleet, payloads: Payloads) -> None:
        self._fleet = fleet
        self._client = Client(fleet)
        self._payloads = payloads

    async def gather(self, task: Task, wish: Gather) -> Gathered:
        """Opens the barrier, or finds it, and waits until it has ended."""
        plan = plan_under_budgets(_plan_decoder.decode(wish.plan), task.budget_keys)
        opening = partial(open_fan_out, self._fleet, wish.barrier_id, plan, parent_id=task.id)
        try:
            await self._payloads.insist(opening)
            outcome = await self._client.barrier_end(wish.barrier_id)
            if not outcome.is_completed:
                return Gathered(wish.run_id, wish.barrier_id, None, outcome.error)
            children = await self.write_children(wish.barrier_id)
        except FleetlogError as error:
            return Gathered(wish.run_id, wish.barrier_id, None, str(error))
        return Gathered(wish.run_id, wish.barrier_id, str(children))

    async def write_children(self, barrier_id: str) -> Path:
        """A file with the outcomes of a barrier's members: a `Child` in each line. The caller removes it.

        Raises:
            ObjectLost: something of them is missing or damaged.
            TransportError: log or store did not answer for a minute.
        """
        children = await self._payloads.have(partial(load_children, self._fleet, barrier_id))
        return await asyncio.to_thread(_write_lines, children)

    async def spawn(self, task: Task, wish: Spawn, say: Callable[[str], None]) -> None:
        """Submits the task; what is refused is told in the attempt's output."""
        try:
            spec = _spec_decoder.decode(wish.spec)
            spec = under_budgets(spec, task.budget_keys)
            spec = msgspec.structs.replace(spec, parent_id=task.id)
            submit = partial(self._client.submit, spec, task_id=wish.task_id)
            await self._payloads.insist(submit)
        except (InvalidInput, Refused, msgspec.DecodeError) as error:
            say(f"spawn: {error}\n")
        except TransportError as error:
            logger.error("task %s: what it spawned is not submitted: %s", task.id, error)


def _write_lines(children: list[Child]) -> Path:
    handle, name = tempfile.mkstemp(prefix="fleetlog-children-", suffix=".jsonl")
    with os.fdopen(handle, "wb") as file:
        file.writelines(msgspec.json.encode(child) + b"\n" for child in children)
    return Path(name)
