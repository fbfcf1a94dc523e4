"""What a handler learns about its attempt, and how it speaks while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from fleetlog.schemas.children import Child

Emit: TypeAlias = Callable[[Literal["log", "progress"], str, float | None], None]
"""Stream, text, per cent."""
Leave: TypeAlias = Callable[[str, str, str | None], None]
"""Folder, name of the file in it, what to call it."""


class Context:
    """The attempt that a handler runs in: a parameter annotated `Context` receives it.

    In a test of a handler, make one yourself: `Context("some-task")`.

    Attributes:
        task_id: the task.
        attempt: 1 for the first claim.
        fence: the log sequence of the claim; a later claim has a higher one.
        deadline: when this attempt's time is up, aware UTC; None without a time-out.
    """

    def __init__(  # noqa: PLR0913 - all that an attempt can have
        self,
        task_id: str,
        *,
        attempt: int = 1,
        fence: int = 0,
        deadline: datetime | None = None,
        emit: Emit | None = None,
        leave: Leave | None = None,
        children: str | Sequence[Child] = (),
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.fence = fence
        self.deadline = deadline
        self._emit = emit
        self._leave = leave
        self._children = children
        self._is_cancelled = False

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of the task and in no other task: give it to what has side effects."""
        return self.task_id

    @property
    def children(self) -> Sequence[Child]:
        """For the continuation of a fan-out: its members' outcomes, in the order of the fan-out.

        They are as they were when the barrier was released, the same in every attempt.
        """
        if isinstance(self._children, str):
            lines = Path(self._children).read_bytes().splitlines()
            self._children = [msgspec.json.decode(line, type=Child) for line in lines]
        return self._children

    @property
    def cancelled(self) -> bool:
        """The attempt shall end: time-out, cancel or drain.

        A handler that is a plain function looks here now and then, and returns nothing; an async one is
        cancelled at its next await.
        """
        return self._is_cancelled

    def progress(self, pct: float | None = None, message: str = "") -> None:
        """Tells whoever watches how far it is; 0 to 100 per cent. Also a sign of life."""
        if self._emit is not None:
            self._emit("progress", message, None if pct is None else min(100.0, max(0.0, pct)))

    def log(self, message: str) -> None:
        """Adds a line to the task's output."""
        if self._emit is not None:
            self._emit("log", message + "\n", None)

    def artifact(self, path: str | PathLike[str], name: str | None = None) -> None:
        """Keeps a file with the task, as it is when the attempt has ended: it must still be there then.

        `fleetlog task artifact` lists and fetches what was kept. A file that can't be kept is named in the
        task's output; the attempt does not fail for it.

        Args:
            path: the file; at most 256 MiB.
            name: what to call it; its own name if not given. Of one name the last counts.
        """
        if self._leave is not None:
            file = Path(path).resolve()
            self._leave(str(file.parent), file.name, Path(path).name if name is None else name)

    def cancel(self) -> None:
        """Sets `cancelled`; the worker's part, and a test's."""
        self._is_cancelled = True
