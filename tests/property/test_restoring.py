"""A coordinator that begins with a snapshot owes the same as one that has read the whole log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.join_world import Seat, World

from fleetlog.bus.core.admission_acts import Admit
from fleetlog.bus.errors import ConflictError, TransportError
from fleetlog.bus.unsettled import Unsettled
from tests.property.test_admission import STEPS, Chance, step

pytestmark = pytest.mark.usefixtures("unmeasured")


def owed(fold: Unsettled, now: datetime) -> list[object]:
    """All that it would do now, and has not done."""
    found: list[object] = []
    while acts := fold.acts(now, 1000):
        found += [(task.id, task.version, command) for task, command in acts]
    for act in fold.admission.acts(now, 1000):
        if isinstance(act, Admit):
            found.append((act.limits, [task.id for task in act.tasks]))
        else:
            found.append(act)
    return sorted(found, key=repr)


async def run(seed: int) -> None:
    chance, world = Chance(seed), World()
    await world.start_agent(workers=3)
    for _ in range(chance.random.choice((50, 150))):
        with suppress(ConflictError, TransportError):
            await step(world, chance, chance.random.choice(STEPS))
    world.log.trouble = ""
    reader, restored = Seat(world.fleet), Seat(world.fleet)
    cut = chance.random.randint(1, await world.log.end())
    await reader.read(cut)
    await reader.save()
    await restored.restore()
    assert restored.fold.seq == cut
    if chance.random.randrange(2):
        for seat in (reader, restored):
            await seat.read()
    later = world.log.now() + timedelta(seconds=chance.random.choice((0, 1, 40)))
    assert owed(restored.fold, later) == owed(reader.fold, later)
    assert reader.fold.parts() == restored.fold.parts()
    assert reader.fold.tasks == restored.fold.tasks


@given(seed=st.integers(0, 2**63))
def test_who_begins_with_a_snapshot_owes_what_a_reader_of_the_whole_log_does(seed: int) -> None:
    asyncio.run(run(seed))
