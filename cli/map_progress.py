"""One line on the terminal that says how a map goes."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleetlog.bus.task_set import TaskSet
from fleetlog.cli.tally import Tally

RATE_WINDOW_S: Final = 10.0
_DRAWS_PER_S: Final = 8


class MapProgress:
    """Submitted, running, done, failed, rate and time left, on stderr; gone at the end of the block.

    Args:
        tally: of the submitting.
        tasks: the states; None when nobody waits for outcomes.
    """

    def __init__(self, tally: Tally, tasks: TaskSet | None) -> None:
        self._tally = tally
        self._tasks = tasks
        self._spinner = Spinner("dots")
        self._seen: deque[tuple[float, int]] = deque()
        self._live = Live(
            self,
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=_DRAWS_PER_S,
            # What goes to a file or a pipe must not be drawn into the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )

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
        line = Text("  ".join(self.words(time.monotonic())), no_wrap=True, overflow="ellipsis")
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, line)
        yield row

    def words(self, now_s: float) -> list[str]:
        """The line's parts."""
        tally, total = self._tally, self._tally.total
        words = [f"submitted {tally.submitted}" + (f"/{total}" if total is not None else "")]
        reached = tally.submitted
        if self._tasks is not None:
            counts = self._tasks.counts
            reached = len(self._tasks) - self._tasks.open_count
            words += [
                f"running {counts['claimed']}",
                f"done {counts['completed']}",
                f"failed {reached - counts['completed']}",
            ]
        rate = self._rate(now_s, reached)
        words.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if total is not None and rate > 0:
            words.append(f"{_clock(int((total - reached) / rate))} left")
        return words

    def _rate(self, now_s: float, reached: int) -> float:
        """Over the last seconds, so that a pause shows."""
        seen = self._seen
        seen.append((now_s, reached))
        while len(seen) > 2 and now_s - seen[1][0] >= RATE_WINDOW_S:
            seen.popleft()
        then_s, before = seen[0]
        return max(0, reached - before) / (now_s - then_s) if now_s > then_s else 0.0


def _clock(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
