"""Fan-outs of every kind while coordinators and agents are killed and paused and the server restarts."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.barrier_reading import Reading, check
from support.fleet_process import FleetProcess, process_of
from support.fleets import history
from support.judging import check_fleet

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import Refused, TransportError
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.handles import FannedOut
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import BarrierAbandoned, BarrierReleased, TerminalEvent
from fleetlog.schemas.fan_outs import Policy
from fleetlog.schemas.specs import TaskSpec

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
BARRIERS = 1000 if IS_LONG else 60
CHILDREN_MAX = 50 if IS_LONG else 8
OLD_TASKS = 30
KEYS = 20
BLOWS_MIN = 40 if IS_LONG else 4
END_TIMEOUT_S = 1800 if IS_LONG else 120
T = TypeVar("T")
SEED = int(os.environ.get("FLEETLOG_SEED", random.SystemRandom().randrange(10**6)))


class Plans:
    """Random fan-outs."""

    def __init__(self, chance: random.Random, old: list[str]) -> None:
        self.chance = chance
        self._old = old

    def member(self) -> TaskSpec | str:
        chance = self.chance
        match chance.randrange(12):
            case 0:
                return call("fail_for_good")
            case 1:
                return chance.choice(self._old)
            case 2:
                return self._keyed()
            case 3:
                return call("nap", seconds=chance.uniform(0.0, 0.5))
            case 4 if chance.random() < 0.5:
                return call("split", depth=chance.choice((1, 2)), then=chance.random() < 0.7)
            case _:
                return call("add", a=1, b=2)

    def _keyed(self) -> TaskSpec:
        """One that other fan-outs have as well."""
        spec = call("noop", n=7)
        return TaskSpec(
            handler=spec.handler, args=spec.args, key=f"key-{self.chance.randrange(KEYS)}"
        )

    def fan_out(self) -> FanOut:
        chance = self.chance
        members: dict[str, TaskSpec | str] = {}
        for number in range(chance.randint(2, CHILDREN_MAX)):
            each = self.member()
            name = each if isinstance(each, str) else each.key or str(number)
            members[name] = each
        deadline = None
        if chance.random() < 0.15:
            deadline = f"{chance.randint(500, 3000)}ms"
            members["never"] = TaskSpec(handler="noop", queue="nobody")
        policy: Policy = chance.choice(("settled", "settled", "all", "any", "quorum"))
        if "never" in members and policy != "settled":
            policy = "all"
        return FanOut(
            members.values(),
            then=call("gathered") if chance.random() < 0.9 else None,
            policy=policy,
            quorum=2 if policy == "quorum" else None,
            deadline=deadline,
            stragglers=chance.choice(("cancel", "cancel", "cancel", "wait"))
            if not deadline
            else "cancel",
        )


class Crew:
    """The fleet's processes; who was killed is replaced."""

    def __init__(self, stack: AsyncExitStack, server: EmbeddedServer, fleet: str) -> None:
        self._stack = stack
        self._server = server
        self._fleet = fleet
        self.agents: list[FleetProcess] = []
        self.coordinators: list[FleetProcess] = []

    async def hire(self, role: str) -> None:
        is_agent = role == "agent"
        coming = process_of(
            "agent" if is_agent else "coordinator", self._server.target, self._fleet, workers=2
        )
        crew = self.agents if is_agent else self.coordinators
        crew.append(await self._stack.enter_async_context(coming))

    async def strike(self, blow: str, chance: random.Random) -> None:
        what, role = blow.split()
        crew = self.agents if role == "agent" else self.coordinators
        match what:
            case "restart":
                self._server.kill()
                await self._server.wait()
                await self._server.restart()
            case "pause":
                # Longer than others believe a silence: two act at once afterwards.
                victim = chance.choice(crew)
                victim.pause()
                await asyncio.sleep(chance.uniform(3.5, 5.0))  # the pause is what is tested
                victim.go_on()
            case _:
                victim = chance.choice(crew)
                await victim.kill()
                crew.remove(victim)
                await self.hire(role)


BLOWS = ("kill coordinator", "kill agent", "restart server", "pause coordinator")


async def surely(client: Client, act: Callable[[], Awaitable[T]]) -> T:
    """Does it again for as long as the server is away; with a key that is safe, as the errors say."""
    while True:
        try:
            return await act()
        except TransportError:
            await client.fleet.link.wait_connected()
            await asyncio.sleep(0.1)  # an answer that does not come is not worth a storm


async def send_all(client: Client, plans: Plans) -> list[FannedOut]:
    """Fans out, some of it twice at the same time, and cancels some."""
    sent: list[FannedOut] = []
    chance = plans.chance

    async def send(number: int) -> None:
        fan_out, key = plans.fan_out(), f"fan-out {SEED} {number}"
        is_cancelled, delay_s = chance.random() < 0.1, chance.uniform(0.0, 1.0)
        twice = [
            surely(client, partial(client.fan_out, fan_out, key=key))
            for _ in range(1 + (number % 7 == 0))
        ]
        first, *others = await asyncio.gather(*twice)
        assert {each.seq for each in others} <= {first.seq}
        sent.append(first)
        if is_cancelled:
            await asyncio.sleep(delay_s)  # at any point of its life
            with suppress(Refused):
                await surely(client, partial(first.cancel, reason="no more"))

    for start in range(0, BARRIERS, 10):
        await asyncio.gather(*(send(n) for n in range(start, min(start + 10, BARRIERS))))
    return sent


def unsettled(records: list[Recorded]) -> set[str]:
    reading = Reading(records, {})
    open_tasks = {each for each in reading.known if not reading.settled[each]}
    return open_tasks | {each for each in reading.openings if not reading.ends[each]}


async def rest(fleet: Fleet) -> list[Recorded]:
    """Waits until everything in the log has its end."""
    async with asyncio.timeout(END_TIMEOUT_S):
        while True:
            with suppress(TransportError):
                records = await history(fleet)
                if not unsettled(records):
                    return records
            await asyncio.sleep(0.5)  # the whole log is what is waited for


async def stored(fleet: Fleet, records: list[Recorded]) -> dict[str, bytes]:
    refs = [
        plan.members_ref
        for record in records
        if (plan := getattr(record.event, "fan_out", None)) is not None and plan.members_ref
    ]
    return {ref.sha256: await fleet.objects.get(ref) for ref in refs}


def reasons(records: list[Recorded]) -> Counter[str]:
    found: Counter[str] = Counter()
    for event in (record.event for record in records):
        if isinstance(event, BarrierReleased):
            found[f"released: {(event.reason or '').partition(':')[0]}"] += 1
        elif isinstance(event, BarrierAbandoned):
            found[f"abandoned: {event.why}"] += 1
    return found


def latencies_ms(reading: Reading) -> list[float]:
    """From the last outcome that a barrier waited for to its release."""
    at = {record.seq: record.stored_at for record in reading.records}
    found = []
    for ends in reading.ends.values():
        event = ends[0].event
        if isinstance(event, BarrierReleased) and event.settled == event.expected > 0:
            since = max(at[seq] for seq in event.outcomes)
            opened_at = at[event.opened]
            found.append((ends[0].stored_at - max(since, opened_at)).total_seconds() * 1000)
    return sorted(found)


BY_SQL = """
SELECT
    b.barrier_id, b.state, b.why, b.settled, b.succeeded,
    (
        SELECT count(*) FROM events AS e
        WHERE e.task_id = b.continuation_id AND e.type = 'task.queued' AND e.attempt = 1
    ) AS offers
FROM barriers AS b
"""


async def rows_by_sql(fleet: Fleet, folder: Path) -> dict[str, dict[str, Any]]:
    """What the tables say of each barrier."""
    projector = Projector(fleet.log, folder, services=fleet.services, system=fleet.system)
    async with asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        _, chunks = await query(fleet.services, SqlRequest(sql=BY_SQL, is_fresh=True))
        rows = json.loads(b"".join([chunk async for chunk in chunks]))
        projector.stop()
    return {row["barrier_id"]: row for row in rows}


def check_rows(reading: Reading, rows: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == set(reading.openings)
    for barrier_id, row in rows.items():
        event = reading.ends[barrier_id][0].event
        assert isinstance(event, BarrierReleased | BarrierAbandoned)
        is_released = isinstance(event, BarrierReleased)
        assert row["state"] == ("released" if is_released else "abandoned")
        assert row["offers"] <= is_released
        if is_released:
            assert (row["settled"], row["succeeded"]) == (event.settled, event.succeeded)


async def test_every_barrier_ends_once_by_its_rule_whatever_dies(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    blows: Counter[str] = Counter()
    async with open_fleet(fresh_server.target, fleet) as opened, AsyncExitStack() as stack:
        crew = Crew(stack, fresh_server, fleet)
        await asyncio.gather(
            *(crew.hire(r) for r in ("coordinator", "coordinator", "agent", "agent"))
        )
        client = Client(opened)
        old = await client.submit_many([call("add", a=1, b=1)] * OLD_TASKS)
        await asyncio.gather(*(each.result() for each in old))
        sending = asyncio.ensure_future(
            send_all(client, Plans(chance, [each.task_id for each in old]))
        )
        strikes = random.Random(SEED + 1)
        async with asyncio.timeout(END_TIMEOUT_S):
            number = 0
            while number < BLOWS_MIN or not sending.done():
                await asyncio.sleep(strikes.uniform(0.3, 1.5))  # work goes on between
                blow = BLOWS[number % 4] if number < 4 else strikes.choice(BLOWS)
                await crew.strike(blow, strikes)
                blows[blow] += 1
                number += 1
            fanned_out = await sending
        records = await rest(opened)
        reading = Reading(records, await stored(opened, records))
        await check_fleet(opened, objects=reading.objects, is_quiet=True)
        check_rows(reading, await rows_by_sql(opened, tmp_path / "views"))
    check(reading, has_cancelled=True)
    assert {each.barrier_id for each in fanned_out} <= set(reading.openings)
    late = latencies_ms(reading)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {BARRIERS} fan-outs sent, {len(reading.openings)} barriers,"
            f" {len(reading.known)} tasks, {len(records)} events, {dict(blows)}"
        )
        print("\n".join(f"  {count:5} {why}" for why, count in sorted(reasons(records).items())))
        print(
            f"  released after p50 {late[len(late) // 2]:.1f} ms, p99 {late[len(late) * 99 // 100]:.1f} ms"
        )
    assert sum(isinstance(r.event, TerminalEvent) for r in records) == len(reading.known)
