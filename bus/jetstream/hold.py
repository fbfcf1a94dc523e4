"""Keeping appends back after a break, until it is known what the log still has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Hold:
    """For one who decides by what was read before, such as a coordinator or an agent.

    An append that was under way when the connection broke goes again once it is back. If the server has lost
    its last second meanwhile, what the append follows from may be gone: so it waits until whoever decided it
    has looked, and goes, or is dropped.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        """Somebody looks after each break."""
        self.is_reader = False
        """Who looks decides by what was read, not only by what it appended itself."""
        self.break_count = 0
        """While it was wanted."""
        self.drop_count = 0
        """So often something was gone."""
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
    def wanted(self, *, is_reader: bool = True) -> Iterator[Hold]:
        """From each break on within this block, appends wait for `lift`.

        Args:
            is_reader: see the attribute.
        """
        self.is_wanted, self.is_reader = True, is_reader
        try:
            yield self
        finally:
            self.is_wanted = self.is_reader = False
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

    def drop(self) -> None:
        """Appends may go on, but what was decided before has lost what it followed from: that fails."""
        self.drop_count += 1
        self.lift()

    async def lifted(self) -> None:
        """Waits until appends may go on."""
        await self._off.wait()
