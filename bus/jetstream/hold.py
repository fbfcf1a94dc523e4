"""Keeping appends back after a break, until it is known what the log still has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Hold:
    """For one who decides by all that was read of the log, such as a coordinator.

    An append that was under way when the connection broke goes again once it is back. If the server has lost
    its last second meanwhile, what the append follows from may be gone: so it waits until whoever decided it
    has looked, and is dropped, or goes.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        """Somebody looks after each break."""
        self.break_count = 0
        """While it was wanted."""
        self._on = asyncio.Event()
        self._off = asyncio.Event()
        self._off.set()
        self.on_lift: list[Callable[[], None]] = []
        """Called when appends may go on."""

    @property
    def is_on(self) -> bool:
        """Whether appends wait."""
        return self._on.is_set()

    @contextmanager
    def wanted(self) -> Iterator[Hold]:
        """From each break on within this block, appends wait for `lift`."""
        self.is_wanted = True
        try:
            yield self
        finally:
            self.is_wanted = False
            self.lift()

    def begin(self) -> None:
        """The connection is back after a break."""
        if self.is_wanted:
            self.break_count += 1
            self._off.clear()
            self._on.set()

    async def begun(self) -> int:
        """Waits until appends wait; answers the number of breaks so far."""
        await self._on.wait()
        return self.break_count

    def lift(self, count: int | None = None) -> None:
        """Appends may go on, unless there have been more breaks than `count`, if given."""
        if count not in (None, self.break_count):
            return
        self._on.clear()
        self._off.set()
        for callback in self.on_lift:
            callback()

    async def lifted(self) -> None:
        """Waits until appends may go on."""
        await self._off.wait()
