"""Arguments and results on their way from and to a store that may be away."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fleetlog.agents.payloads import AWAY_S, PAUSE_S, Payloads
from fleetlog.bus.core import Complete
from fleetlog.bus.errors import ObjectLost, Unavailable
from fleetlog.bus.objects import MemoryObjects, ref_of
from fleetlog.schemas.objects import ObjectRef

DATA = b'"large"'


class Moving:
    """A clock that moves when someone sleeps."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    async def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


class Away(MemoryObjects):
    """A store that does not answer the first times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def get(self, ref: ObjectRef) -> bytes:
        self._answer()
        return await super().get(ref)

    async def put(self, data: bytes | io.BufferedIOBase) -> ObjectRef:
        self._answer()
        return await super().put(data)

    def _answer(self) -> None:
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("not now")


async def test_arguments_are_waited_for() -> None:
    store, clock = Away(3), Moving()
    store.held[ref_of(DATA).sha256] = DATA
    assert await Payloads(store, clock).fetch(ref_of(DATA)) == DATA
    assert clock.passed_s == 3 * PAUSE_S


async def test_arguments_are_not_waited_for_for_ever() -> None:
    clock = Moving()
    with pytest.raises(Unavailable):
        await Payloads(Away(10**9), clock).fetch(ref_of(DATA))
    assert clock.passed_s == AWAY_S


async def test_lost_arguments_are_not_waited_for() -> None:
    clock = Moving()
    with pytest.raises(ObjectLost):
        await Payloads(Away(0), clock).fetch(ref_of(DATA))
    assert clock.passed_s == 0


async def test_a_result_is_stored_however_long_that_takes() -> None:
    store, clock = Away(1000), Moving()
    end = Complete(id="e", fence=7, ran_ms=5, result=msgspec.Raw(DATA))
    stored = await Payloads(store, clock).store_result(end)
    assert stored == Complete(
        id="e", fence=7, ran_ms=5, result=msgspec.Raw(b"null"), result_ref=ref_of(DATA)
    )
    assert await store.get(ref_of(DATA)) == DATA
