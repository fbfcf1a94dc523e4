"""Limits: who holds a place under a key, how often one may start, and what lets tasks in."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from simulation.invariants.messages import Entry, Report, Tolerance
from simulation.invariants.names import family_of
from simulation.invariants.story import Step, Story

_HOLDING: Final = frozenset({"queued", "claimed"})
_ADMITTED_MAX: Final = 500
_NOTHING: Final = 0.001
"""Of a start: what rounding may cost."""


class _Setting(NamedTuple):
    seq: int
    at_us: int
    event: dict[str, Any]
    is_family: bool


class _Bucket:
    """So many starts are left of a rate, as of an instant."""

    def __init__(self, setting: _Setting, at_us: int) -> None:
        event = setting.event
        self.setting_seq = setting.seq
        self.size = float(event.get("burst") or event["rate"])
        self.per_us: float = event["rate"] / (event.get("per_ms", 1_000) * 1_000)
        self.level = self.size
        self.at_us = at_us

    def take(self, count: int, at_us: int) -> float:
        """Takes so many starts out; answers what is left, below 0 when there were too few."""
        elapsed_us = max(0, at_us - self.at_us)
        self.level = min(self.size, self.level + elapsed_us * self.per_us) - count
        self.at_us = max(self.at_us, at_us)
        return self.level


class Limits:
    """All limits, and the tasks that hold their places: those that are offered or claimed.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self._report = report
        self._tolerance = tolerance
        self._settings: dict[str, tuple[int, int, dict[str, Any]]] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._holders: dict[str, dict[str, None]] = {}
        self._held: dict[str, list[str]] = {}
        self._pending: dict[str, set[str]] = {}
        self._is_admitting = False

    @property
    def is_pending(self) -> bool:
        """Offers stand in the log, and the events that let them in are still to come."""
        return bool(self._pending)

    def take_step(self, step: Step) -> None:
        """An event of a task."""
        entry, story = step.entry, step.story
        held = self._held.get(story.id)
        limits = story.spec.get("limits") if story.status in _HOLDING else None
        is_new = bool(limits) and held is None
        if self._pending and (not is_new or self._is_admitting):
            self.flush(entry.seq)
        if held is not None and held != limits:
            self._release(story.id, held)
            is_new = bool(limits)
        if is_new and limits:
            self._hold(entry, story, limits)

    def take(self, entry: Entry) -> None:
        """An event of a limit."""
        event = entry.event
        if entry.verb == "set":
            if self._pending:
                self.flush(entry.seq)
            self._settings[event["key"]] = (entry.seq, entry.at_us, event)
        else:
            self._take_admitted(entry, event["key"], event.get("tasks", []))

    def flush(self, seq: int) -> None:
        """Something else came: what was not let in by now was offered on its own."""
        for task_id, keys in self._pending.items():
            # The end of the batch may be gone with the server's last second.
            if keys <= self._tolerance.bereft:
                continue
            names = ", ".join(sorted(keys))
            text = f"task {task_id} is offered before {seq} and nothing lets it in under {names}"
            self._report("limit.batch", seq, text)
        self._pending.clear()
        self._is_admitting = False

    def leaked(self, stories: dict[str, Story]) -> list[tuple[str, Story]]:
        """At the end: who holds a place under which key."""
        return [(key, stories[each]) for key, ids in self._holders.items() for each in ids]

    def _hold(self, entry: Entry, story: Story, limits: list[str]) -> None:
        self._held[story.id] = limits
        self._pending[story.id] = set(limits)
        for key in limits:
            holders = self._holders.setdefault(key, {})
            holders[story.id] = None
            self._check_places(entry, key, holders)

    def _release(self, task_id: str, limits: list[str]) -> None:
        del self._held[task_id]
        for key in limits:
            holders = self._holders[key]
            del holders[task_id]
            if not holders:
                del self._holders[key]

    def _check_places(self, entry: Entry, key: str, holders: dict[str, None]) -> None:
        setting = self._setting_of(key)
        most = setting.event.get("concurrency") if setting is not None else None
        if (
            setting is None
            or most is None
            or len(holders) <= most
            or self._is_fresh(setting, entry)
        ):
            return
        text = (
            f"limit {key} lets {most} be at once since {setting.seq}, and at {entry.seq} there are"
            f" {len(holders)}: {', '.join(list(holders)[-5:])}"
        )
        self._report("limit.places", entry.seq, text)

    def _take_admitted(self, entry: Entry, key: str, tasks: list[str]) -> None:
        if not 0 < len(tasks) <= _ADMITTED_MAX or len(set(tasks)) < len(tasks):
            text = f"{entry.seq} lets {len(tasks)} tasks in under {key}, some perhaps twice"
            self._report("limit.batch", entry.seq, text)
        for task_id in tasks:
            keys = self._pending.get(task_id, set())
            if key not in keys:
                text = f"{entry.seq} lets task {task_id} in under {key}, not beside its offer"
                self._report("limit.batch", entry.seq, text)
            keys.discard(key)
        self._pending = {task_id: keys for task_id, keys in self._pending.items() if keys}
        self._is_admitting = bool(self._pending)
        self._check_rate(entry, key, len(tasks))

    def _check_rate(self, entry: Entry, key: str, count: int) -> None:
        setting = self._setting_of(key)
        if setting is None or setting.event.get("rate") is None:
            return
        bucket = self._buckets.get(key)
        if bucket is None or bucket.setting_seq != setting.seq:
            # However empty the one before was: a new setting begins at most as full as its own size.
            bucket = self._buckets[key] = _Bucket(setting, entry.at_us)
        left = bucket.take(count, entry.at_us)
        forgiven = _NOTHING + self._tolerance.skew_ms * 1_000 * bucket.per_us
        if left < -forgiven and not self._is_fresh(setting, entry):
            text = f"{entry.seq} lets {count} tasks in under {key}, {-left:.2f} above its rate"
            self._report("limit.rate", entry.seq, text)

    def _setting_of(self, key: str) -> _Setting | None:
        own = self._settings.get(key)
        if own is not None:
            return _Setting(*own, is_family=False)
        family = family_of(key)
        found = self._settings.get(family) if family is not None else None
        return _Setting(*found, is_family=True) if found is not None else None

    def _is_fresh(self, setting: _Setting, entry: Entry) -> bool:
        """A family's setting has no part in the guard: what was decided before it may come after."""
        return setting.is_family and entry.at_us - setting.at_us <= self._tolerance.lag_ms * 1_000
