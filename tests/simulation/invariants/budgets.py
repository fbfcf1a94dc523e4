"""Budgets: what was used under a key, when that was too much, and what may still begin then."""

from __future__ import annotations

from typing import Any, Final

from simulation.invariants.messages import Entry, Report, Tolerance
from simulation.invariants.names import budget_keys
from simulation.invariants.story import Step, Story

_AMOUNTS: Final = {"tokens": "tokens", "cost": "cost_micro_usd", "wall": "wall_ms"}
"""Resources, and how amounts of them are called."""


class _State:
    """One budget."""

    def __init__(self, key: str, budget: dict[str, Any]) -> None:
        self.key = key
        self.budget = budget
        self.spent = dict.fromkeys(_AMOUNTS.values(), 0)
        self.told_seq = 0
        self.used_up_at_us: int | None = None

    @property
    def action(self) -> str:
        action: str = self.budget.get("action", "hold")
        return action

    @property
    def is_holding(self) -> bool:
        return self.used_up_at_us is not None and self.action != "warn"

    def look(self, at_us: int) -> None:
        """Whether it is used up now."""
        if not _used_up(self.budget, self.spent):
            self.used_up_at_us = None
        elif self.used_up_at_us is None:
            self.used_up_at_us = at_us


class Budgets:
    """All budgets, by key; one of a task's tree has the task's id.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
        stories: all tasks; kept by the caller.
    """

    def __init__(self, report: Report, tolerance: Tolerance, stories: dict[str, Story]) -> None:
        self._report = report
        self._lag_us = tolerance.lag_ms * 1000
        self._stories = stories
        self._states: dict[str, _State] = {}

    def take_step(self, step: Step) -> None:
        """An event of a task."""
        entry, story, was = step[:3]
        spec = story.spec
        if was == "absent":
            if (parent_id := spec.get("parent_id")) is not None:
                self._check_inherited(entry, story, parent_id)
            if own := spec.get("budget"):
                self._states.setdefault(story.id, _State(story.id, own)).look(entry.at_us)
        keys = budget_keys(spec, story.id)
        if not keys:
            return
        if story.status == "queued" and was in ("held", "waiting"):
            self._check_held(entry, story, keys)
        if was == "claimed" and entry.event.get("fence") is not None:
            self._charge(entry, keys, story.claimed_at_us)

    def take(self, entry: Entry) -> None:
        """An event of a budget."""
        key = entry.event["key"]
        if entry.verb == "set":
            state = self._states.setdefault(key, _State(key, {}))
            state.budget, state.told_seq = entry.event["budget"], 0
            if entry.event.get("is_reset"):
                state.spent = dict.fromkeys(_AMOUNTS.values(), 0)
            state.used_up_at_us = None
            state.look(entry.at_us)
        else:
            self._take_exhausted(entry, key)

    def end(self, seq: int, stories: dict[str, Story]) -> None:
        """Everything had time to settle: what follows from budgets that are used up has followed."""
        for state in self._states.values():
            if state.used_up_at_us is not None and not state.told_seq:
                text = f"budget {state.key} is used up, and nothing says so"
                self._report("budget.told", seq, text)
        for story in stories.values():
            if story.is_ended:
                continue
            states = [self._states.get(key) for key in budget_keys(story.spec, story.id)]
            for state in [each for each in states if each is not None and each.is_holding]:
                if state.action == "stop" or story.status == "queued":
                    text = f"task {story.id} is {story.status} though budget {state.key} is used up"
                    self._report("budget.end", seq, text)

    def _check_held(self, entry: Entry, story: Story, keys: list[str]) -> None:
        for state in [self._states[key] for key in keys if key in self._states]:
            since_us = state.used_up_at_us
            if state.is_holding and since_us is not None and entry.at_us - since_us > self._lag_us:
                text = (
                    f"task {story.id} is offered at {entry.seq}, {(entry.at_us - since_us) / 1e6} s after"
                    f" budget {state.key} was used up"
                )
                self._report("budget.hold", entry.seq, text)

    def _charge(self, entry: Entry, keys: list[str], claimed_at_us: int) -> None:
        event = entry.event
        usage = event.get("usage") or {}
        ran_ms = event.get("ran_ms")
        if ran_ms is None:
            ran_ms = (entry.at_us - claimed_at_us) // 1000
        for state in [self._states[key] for key in keys if key in self._states]:
            spent = state.spent
            spent["tokens"] += usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
            spent["cost_micro_usd"] += usage.get("cost_micro_usd", 0)
            spent["wall_ms"] += max(0, ran_ms)
            state.look(entry.at_us)

    def _take_exhausted(self, entry: Entry, key: str) -> None:
        state, event = self._states.get(key), entry.event
        spent, resource = event.get("spent", {}), event.get("resource")
        if state is None:
            self._report("budget.told", entry.seq, f"{entry.seq} tells of budget {key}, never set")
            return
        if state.told_seq:
            text = f"{entry.seq} says again what {state.told_seq} said: budget {key} is used up"
            self._report("budget.told", entry.seq, text)
        more = [name for name in spent if spent[name] > state.spent.get(name, 0)]
        is_true = resource in _used_up(state.budget, spent) and not more
        if not is_true or event.get("action") != state.action:
            text = (
                f"{entry.seq} says {event.get('action')} as {resource} of budget {key} is used up by {spent};"
                f" used were {state.spent} of {state.budget}"
            )
            self._report("budget.told", entry.seq, text)
        state.told_seq = entry.seq

    def _check_inherited(self, entry: Entry, story: Story, parent_id: str) -> None:
        parent = self._stories.get(parent_id)
        wanted = budget_keys(parent.spec, parent_id) if parent is not None else []
        missing = [key for key in wanted if key not in story.spec.get("budgets", ())]
        if missing:
            text = f"task {story.id} of parent {parent_id} is not under {', '.join(missing)}"
            self._report("budget.inherited", entry.seq, text)


def _used_up(budget: dict[str, Any], spent: dict[str, int]) -> list[str]:
    return [
        resource
        for resource, name in _AMOUNTS.items()
        if budget.get(name) is not None and spent.get(name, 0) >= budget[name]
    ]
