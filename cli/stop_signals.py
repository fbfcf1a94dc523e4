"""What SIGINT, SIGTERM and SIGHUP do to `fleetlog up`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fleetlog.cli.keeper import Keeper


class StopSignals:
    """Turns signals into a stop in order; before there is anything to stop, into a cancel."""

    def __init__(self, on_stop: Callable[[], None]) -> None:
        """Args:
        on_stop: is called when the stop begins.
        """
        self._on_stop = on_stop
        self._count = 0
        self.keeper: Keeper | None = None
        """What to stop, once there is something."""
        self.has_cancelled = False
        """Whether a signal came before that, and cancelled the task that entered."""

    def __enter__(self) -> Self:
        """Takes SIGINT, SIGTERM and SIGHUP over."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # A `nohup fleetlog up` ignores the hang-up, and so do we then.
        is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._numbers = [signal.SIGINT, signal.SIGTERM, *([] if is_nohup else [signal.SIGHUP])]
        for number in self._numbers:
            self._loop.add_signal_handler(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        self._count += 1
        if self.keeper is None:
            assert self._task is not None
            self.has_cancelled = True
            self._task.cancel()
        elif self._count == 1:
            self._on_stop()
            self.keeper.stop()
        else:
            self.keeper.hurry()
