"""How far the submitting of a map is."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fleetlog.bus.handles import Submitted

LABEL = "map"
"""Every task of a map carries it, with the map's id."""


class Tally(msgspec.Struct):
    """Counts what the log has accepted."""

    map_id: str
    """The value of the label."""
    total: int | None
    """How many items there are; None while that is not known."""
    submitted: int = 0
    """How many tasks the log has, those that it had before included."""
    duplicates: int = 0
    """How many it had before."""
    first: Submitted | None = None
    """The first one."""
    last: Submitted | None = None
    """The last one so far."""

    def note(self, submitted: Submitted) -> None:
        """Counts one more."""
        self.submitted += 1
        self.duplicates += submitted.is_duplicate
        self.first = self.first or submitted
        self.last = submitted

    def describe(self, *, is_cut_short: bool = False) -> str:
        """How many there are, and how to find them. Cut short, there may be more than the log has told of."""
        if self.first is None or self.last is None:
            if not is_cut_short:
                return "nothing was submitted"
            return (
                f"no task was confirmed yet; what was on its way has the label {LABEL}={self.map_id}."
                f' Look for it with `fleetlog sql "{self.question}"`'
            )
        tasks = "1 task is" if self.submitted == 1 else f"{self.submitted} tasks are"
        before = f", {self.duplicates} of them from before" if self.duplicates else ""
        return (
            f"{tasks} in the log{before}: from {self.first.task_id} to {self.last.task_id}, with the label"
            f' {LABEL}={self.map_id}. Follow them with `fleetlog sql "{self.question}"`'
        )

    @property
    def question(self) -> str:
        """An SQL statement for the states of the tasks that this map made."""
        mine = f"labels['{LABEL}'] = '{self.map_id}'"
        return f"SELECT state, count(*) FROM tasks WHERE {mine} GROUP BY state"  # noqa: S608 - our own id

    def as_json(self, task_ids: list[str]) -> Mapping[str, object]:
        """For programs that do not wait."""
        return {
            "barrier_id": None,
            "map_id": self.map_id,
            "submitted": self.submitted,
            "duplicates": self.duplicates,
            "task_ids": task_ids,
        }
