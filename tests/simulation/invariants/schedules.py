"""Schedules: one task for each instant, the right instants, and none of them left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from simulation.invariants.cron import is_instant, read_cron
from simulation.invariants.messages import Entry, Report, Tolerance, instant
from simulation.invariants.story import Step, Story

_INSTANT: Final = re.compile(r"(\d{8}T\d{6})(\d{3})?Z")
_LATE_US: Final = 60_000_000
"""What is older was missed; what is not older is made."""
_NEVER: Final = 2**62


class _Epoch:
    """A time in which one rule held and was not paused."""

    def __init__(self, entry: Entry, rule: dict[str, Any], set_at_us: int) -> None:
        self.rule = rule
        self.set_at_us = set_at_us
        self.since_us = entry.at_us
        self.until_us = _NEVER

    def has(self, at_us: int) -> bool | None:
        """Whether an instant is one of the rule's; None for cron texts that are not read here."""
        if at_us <= self.since_us:
            return False
        every_ms = self.rule.get("every_ms")
        if every_ms is not None:
            precision_us = 1_000 if every_ms % 1_000 else 1_000_000
            anchor_us = self.set_at_us // precision_us * precision_us
            return at_us > anchor_us and (at_us - anchor_us) % (every_ms * 1_000) == 0
        cron = read_cron(self.rule.get("cron") or "")
        if cron is None:
            return None
        return is_instant(cron, ZoneInfo(self.rule.get("zone", "UTC")), instant(at_us))

    def instants(self, after_us: int, until_us: int) -> Iterator[int]:
        """Those after the one and up to the other."""
        every_ms = self.rule.get("every_ms")
        if every_ms is not None:
            step_us = every_ms * 1_000
            precision_us = 1_000 if every_ms % 1_000 else 1_000_000
            anchor_us = self.set_at_us // precision_us * precision_us
            first_us = anchor_us + ((after_us - anchor_us) // step_us + 1) * step_us
        else:
            step_us = 60_000_000
            first_us = (after_us // step_us + 1) * step_us
        for at_us in range(first_us, until_us + 1, step_us):
            if self.has(at_us):
                yield at_us


class _Schedule:
    """One name, and all that was said of it."""

    def __init__(self) -> None:
        self.status = "absent"
        self.epochs: list[_Epoch] = []
        self.made: dict[int, tuple[Story, str]] = {}
        """By instant, its task and the rule by whose id it was made."""
        self.last: dict[str, int] = {}
        """By a rule's id, the latest instant it made a task for."""


class Schedules:
    """All schedules, by name.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self._report = report
        self._skew_us = tolerance.skew_ms * 1_000
        self._lag_us = tolerance.lag_ms * 1_000
        self._bereft = tolerance.bereft
        self._known: dict[str, _Schedule] = {}

    def take(self, entry: Entry) -> None:
        """An event of a schedule."""
        verb, schedule = entry.verb, self._known.setdefault(entry.id, _Schedule())
        was = schedule.status
        is_allowed = {"set": True, "paused": was == "active", "resumed": was == "paused"}
        if not is_allowed.get(verb, was in ("active", "paused")):
            text = f"schedule {entry.id} is {was}, and {verb} at {entry.seq} is not allowed then"
            self._report("schedule.life", entry.seq, text)
            return
        if was == "active":
            schedule.epochs[-1].until_us = entry.at_us
        if verb == "set":
            # Who paused it had a reason that another rule does not take away.
            schedule.status = "paused" if was == "paused" else "active"
            epoch = _Epoch(entry, entry.event, entry.at_us)
            epoch.until_us = entry.at_us if was == "paused" else _NEVER
            schedule.epochs.append(epoch)
        elif verb == "resumed":
            last = schedule.epochs[-1]
            schedule.epochs.append(_Epoch(entry, last.rule, last.set_at_us))
            schedule.status = "active"
        else:
            schedule.status = verb

    def take_step(self, step: Step) -> None:
        """The first event of a task."""
        entry, story = step.entry, step.story
        name = story.spec.get("schedule")
        if name is None or _is_copy(story, name):
            return
        schedule = self._known.get(name)
        at_us = _instant_us(name, story.id)
        by_rule = [] if schedule is None else self._epochs(schedule, story.cause)
        if not by_rule and name in self._bereft:
            return
        if schedule is None or at_us is None or not by_rule:
            text = f"task {story.id} names schedule {name}, and no rule of it makes such a task"
            self._report("schedule.task", entry.seq, text)
            return
        rule = by_rule[0].rule
        if story.spec != {**rule["spec"], "schedule": name} or story.digest != rule.get("digest"):
            text = f"task {story.id} is not what schedule {name} makes"
            self._report("schedule.task", entry.seq, text)
        self._check_instant(entry, story, by_rule, at_us)
        if rule.get("overlap") == "skip":
            self._check_overlap(entry, schedule, story, at_us)
        schedule.made[at_us] = (story, rule["id"])
        schedule.last[rule["id"]] = max(at_us, schedule.last.get(rule["id"], 0))

    def end(self, seq: int, at_us: int) -> None:
        """Everything had time to settle: what was late is made."""
        for name, schedule in self._known.items():
            if schedule.status != "active":
                continue
            epoch = schedule.epochs[-1]
            after_us = max(epoch.since_us, at_us - _LATE_US - 1)
            for instant_us in epoch.instants(after_us, at_us):
                is_made = instant_us in schedule.made
                if not is_made and not self._is_skipped(schedule, epoch, instant_us):
                    text = f"schedule {name} has made no task for {instant(instant_us)}"
                    self._report("schedule.owed", seq, text)

    def _epochs(self, schedule: _Schedule, cause: str | None) -> list[_Epoch]:
        return [each for each in schedule.epochs if each.rule["id"] == cause]

    def _check_instant(self, entry: Entry, story: Story, epochs: list[_Epoch], at_us: int) -> None:
        if entry.at_us + self._skew_us < at_us:
            text = f"task {story.id} is made at {entry.seq}, before its instant"
            self._report("schedule.instant", entry.seq, text)
        fits = [each.has(at_us) for each in epochs if at_us <= each.until_us + self._lag_us]
        if True not in fits and None not in fits:
            text = f"task {story.id} is made at {entry.seq} for no instant of its rule"
            self._report("schedule.instant", entry.seq, text)

    def _check_overlap(self, entry: Entry, schedule: _Schedule, story: Story, at_us: int) -> None:
        last_us = schedule.last.get(story.cause or "", _NEVER)
        if last_us >= at_us:
            return
        before = schedule.made[last_us][0]
        if not before.is_ended or before.end_at_us >= at_us:
            text = f"task {story.id} is made at {entry.seq} though {before.id} ran at its instant"
            self._report("schedule.overlap", entry.seq, text)

    def _is_skipped(self, schedule: _Schedule, epoch: _Epoch, at_us: int) -> bool:
        if epoch.rule.get("overlap") != "skip":
            return False
        earlier = [story for each, (story, _) in schedule.made.items() if each < at_us]
        return any(not story.is_ended or story.end_at_us >= at_us for story in earlier)


def _is_copy(story: Story, name: str) -> bool:
    """A revival has its dead one's spec, with the schedule in it."""
    return _instant_us(name, story.id) is None and "-r" in story.id


def _instant_us(name: str, task_id: str) -> int | None:
    text = task_id.removeprefix(f"{name}-")
    match = _INSTANT.fullmatch(text) if text != task_id else None
    if match is None:
        return None
    try:
        at = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (at - epoch) // timedelta(microseconds=1) + int(match[2] or 0) * 1_000
