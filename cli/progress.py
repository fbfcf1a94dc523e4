"""One line on the terminal that says how a task goes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleetlog.bus.client import Client
from fleetlog.bus.core import Task, evolve
from fleetlog.cli.rendering import one_line
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.subjects import guard


class Progress:
    """State, attempt, time and last line of output of one task, on stderr; gone at the end of the block."""

    def __init__(self, client: Client, task_id: str) -> None:
        self._client = client
        self._task = Task(id=task_id)
        self._started_s = time.monotonic()
        self._last = ""
        self._spinner = Spinner("dots")
        self._live = Live(self, console=Console(stderr=True), transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws."""
        elapsed_s = int(time.monotonic() - self._started_s)
        words = [self._task.id, self._task.status if self._task.version else "submitted"]
        if self._task.attempts:
            words.append(f"attempt {self._task.attempts}")
        words.append(f"{elapsed_s // 60}:{elapsed_s % 60:02d}")
        line = Text("  ".join(words), no_wrap=True, overflow="ellipsis")
        if self._last:
            line.append(f"  {self._last}", style="dim")
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, line)
        yield row

    async def follow_state(self) -> None:
        """Keeps the state up, for ever."""
        log = self._client.fleet.log
        async for page in log.follow(subjects=guard(log.fleet, "task", self._task.id)):
            for stored in page:
                self._task = evolve(self._task, open_stored(stored))

    async def follow_output(self) -> None:
        """Keeps the last line up, for ever."""
        async for _, chunk in self._client.fleet.outputs.read(self._task.id, follow=True):
            if lines := chunk.text.split("\n"):
                self._last = one_line(next((line for line in reversed(lines) if line.strip()), ""))
