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
        self._is_wanted = False
        self.break_count = 0
        """Since it is wanted."""
        self._begun = asyncio.Event()
        self._lifted = asyncio.Event()
        self._lifted.set()
        self.on_lift: list[Callable[[], None]] = []
        """Called when appends may go on."""

    @property
    def is_on(self) -> bool:
        """Whether appends wait."""
        return not self._lifted.is_set()

    @contextmanager
    def wanted(self) -> Iterator[Hold]:
        """From each break on within this block, appends wait for `lift`."""
        self._is_wanted = True
        try:
            yield self
        finally:
            self._is_wanted = False
            self.lift()

    def begin(self) -> None:
        """The connection is back after a break."""
        if self._is_wanted:
            self.break_count += 1
            self._lifted.clear()
            self._begun.set()

    async def begun(self) -> int:
        """Waits for a break that nobody has looked at; answers the number of breaks so far."""
        await self._begun.wait()
        self._begun.clear()
        return self.break_count

    def lift(self, count: int | None = None) -> None:
        """Appends may go on, unless there have been more breaks than `count`, if given."""
        if count not in (None, self.break_count):
            return
        self._begun.clear()
        self._lifted.set()
        for callback in self.on_lift:
            callback()

    async def lifted(self) -> None:
        """Waits until appends may go on."""
        await self._lifted.wait()
