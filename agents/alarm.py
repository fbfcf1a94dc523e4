"""One timer for many: a timer of its own for every attempt cost more than starting the attempt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from fleetlog.bus.system import Clock


class Alarm:
    """Rings once, at the soonest instant that anyone asked for. `ring` looks for what is due, and asks again.

    Args:
        clock: whose `monotonic` the instants are of.
        ring: called from within the loop; must not raise.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def by(self, at: float) -> None:
        """Makes sure that it rings at `at`, if not before."""
        if at >= self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        delay_s = max(0.0, at - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_off)

    def close(self) -> None:
        """Does not ring any more, until asked again."""
        if self._timer is not None:
            self._timer.cancel()
        self._at, self._timer = math.inf, None

    def _go_off(self) -> None:
        self._at, self._timer = math.inf, None
        self._ring()
