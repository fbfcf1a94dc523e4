"""What a handler learns about its attempt, and how it speaks while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.submit_options import Duration
from fleetlog.schemas.children import Child
from fleetlog.schemas.fan_outs import Policy, Stragglers
from fleetlog.schemas.ids import derived_id, key_id
from fleetlog.schemas.questions import Answer
from fleetlog.schemas.specs import TaskSpec

Emit: TypeAlias = Callable[[Literal["log", "progress"], str, float | None], None]
"""Stream, text, per cent."""
Leave: TypeAlias = Callable[[str, str, str | None], None]
"""Folder, name of the file in it, what to call it."""


Gather: TypeAlias = Callable[[str, bytes], Awaitable[str]]
"""Id and plan of a barrier, and the file with its outcomes."""


class Context:
    """The attempt that a handler runs in: a parameter annotated `Context` receives it.

    In a test of a handler, make one yourself: `Context("some-task")`.

    Attributes:
        task_id: the task.
        attempt: 1 for the first claim.
        fence: the log sequence of the claim; a later claim has a higher one.
        deadline: when this attempt's time is up, aware UTC; None without a time-out.
        answers: what earlier attempts asked with `NeedInput`, and was answered, in order.
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
        gather: Gather | None = None,
        answers: Sequence[Answer] = (),
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.fence = fence
        self.deadline = deadline
        self.answers = tuple(answers)
        self._emit = emit
        self._leave = leave
        self._children = children
        self._gather = gather
        self._gather_count = 0
        self._is_cancelled = False

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of the task and in no other task: give it to what has side effects."""
        return self.task_id

    @property
    def answer(self) -> Any:
        """The last answer, mostly a text; None before the first: `answers` tells it from null."""
        return self.answers[-1].answer if self.answers else None

    @property
    def children(self) -> Sequence[Child]:
        """For the continuation of a fan-out: its members' outcomes, in the order of the fan-out.

        They are as they were when the barrier was released, the same in every attempt.
        """
        if isinstance(self._children, str):
            self._children = _read_children(Path(self._children))
        return self._children

    async def gather(
        self,
        members: Iterable[TaskSpec | str],
        *,
        key: str | None = None,
        policy: Policy = "settled",
        quorum: int | None = None,
        deadline: Duration | None = None,
        stragglers: Stragglers = "cancel",
    ) -> list[Child]:
        """Runs other tasks and waits for their outcomes, in order; its worker is free for others meanwhile.

        The tasks belong to this task and this call, the first, second or so on in the handler: when the task is
        tried again, the call finds what it made before, done or not. So a handler must gather the same in every
        attempt, or name its calls by `key`. For async handlers only; a plain function returns `FanOut`. The
        arguments are those of `FanOut`.

        Args:
            members: from `call(…)`, or ids of tasks that are there already.
            key: names this call within the task.
            policy: when it goes on.
            quorum: how many must have completed, for `quorum`.
            deadline: after so long, members that are open are cancelled, and the policy decides.
            stragglers: what becomes of members that are open when it goes on.

        Raises:
            InvalidInput: something in it is not allowed.
            GatherFailed: the policy can't be met any more, or another attempt gathered something else here.
        """
        if self._gather is None:
            raise RuntimeError("ctx.gather works in a handler that an agent runs")
        self._gather_count += 1
        place = f"g{self._gather_count}" if key is None else f"g-{key_id(key)}"
        barrier_id = derived_id(self.task_id, place)
        wanted = FanOut(
            members, policy=policy, quorum=quorum, deadline=deadline, stragglers=stragglers
        )
        plan = wanted.plan(barrier_id, parent_id=self.task_id)
        return _take_children(await self._gather(barrier_id, msgspec.json.encode(plan)))

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


def _take_children(path: str) -> list[Child]:
    try:
        return _read_children(Path(path))
    finally:
        Path(path).unlink(missing_ok=True)


def _read_children(path: Path) -> list[Child]:
    return [msgspec.json.decode(line, type=Child) for line in path.read_bytes().splitlines()]
