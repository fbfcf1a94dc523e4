"""Claiming over a holder that is thought dead, while others think so too."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from fleetlog.agents.claims import HELD_NAK_S, Claims
from fleetlog.bus.core import Claim, Submit, Task
from fleetlog.bus.log import Append
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.bus.offers import Lane, Offer
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.schemas.specs import payload_digest
from tests.given import spec


class RacedLog(MemoryLog):
    """Where another agent is quicker, once."""

    rival: Claim | None = None

    def append(self, entry: Append) -> asyncio.Future[int]:
        if (rival := self.rival) is None:
            return super().append(entry)
        self.rival = None
        return asyncio.ensure_future(self._append_second(rival, entry))

    async def _append_second(self, rival: Claim, entry: Append) -> int:
        await claim_as(self, rival)
        return await super().append(entry)


class Offers:
    ack_wait_s = 30.0

    def __init__(self) -> None:
        self.said: list[tuple[str, float]] = []

    def ack(self, ack_subject: str) -> None:
        self.said.append(("ack", 0.0))

    def nak(self, ack_subject: str, delay_s: float = 0.0) -> None:
        self.said.append(("nak", delay_s))


async def claim_as(log: MemoryLog, command: Claim) -> Decided:
    decided = await execute(log, command, await load_task(log, "t1"))
    assert isinstance(decided, Decided)
    return decided


def by(agent_id: str, offer: int, over: int | None = None) -> Claim:
    return Claim(
        id=agent_id, offer=offer, agent_id=agent_id, worker_id="w", host=agent_id, over=over
    )


async def silence_s(agent_id: str) -> float:
    return 99.0 if agent_id == "dead" else 0.0


async def test_who_comes_second_to_a_dead_agents_task_leaves_it_to_the_first() -> None:
    log, offers = RacedLog(), Offers()
    whole = spec()
    submitted = await execute(
        log, Submit(id="s", spec=whole, digest=payload_digest(whole)), Task(id="t1")
    )
    assert isinstance(submitted, Decided)
    held = await claim_as(log, by("dead", submitted.seq))
    log.rival = by("first", submitted.seq, over=held.seq)
    fleet: Any = SimpleNamespace(
        log=log,
        offers=offers,
        hints=SimpleNamespace(publish=lambda *_, **__: None),
        link=SimpleNamespace(connected_for_s=99.0),
        beats=SimpleNamespace(silence_s=silence_s),
        system=SimpleNamespace(new_id=lambda: "second"),
    )
    gate: Any = SimpleNamespace(is_any_paused=False)
    offer = Offer(Lane("default", "normal"), "t1", submitted.seq, 0, b"", 3, "ack.subject")
    assert await Claims(fleet, "second", "h2", gate).claim(offer, "w") is None
    assert offers.said == [("nak", HELD_NAK_S)]
    task = await load_task(log, "t1")
    assert task.lease is not None
    assert (task.lease.agent_id, task.losses) == ("first", 1)
