"""Schedules for programs and for people."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any, Final

from fleetlog.bus.core.cron import zone_of
from fleetlog.bus.core.schedule import Schedule, next_instant
from fleetlog.cli.rendering import instant_text, one_line
from fleetlog.schemas.durations import format_duration
from fleetlog.schemas.errors import InvalidInput

NEXT_COUNT: Final = 3
"""So many of the instants to come are told."""


def fields(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """What `--json` prints of one; `next` has the instants to come, in UTC and as its zone's clocks show it."""
    rule = schedule.rule
    return {
        "name": schedule.name,
        "state": schedule.status,
        "cron": rule.cron if rule else None,
        "every_ms": rule.every_ms if rule else None,
        "zone": _zone(schedule),
        "overlap": rule.overlap if rule else None,
        "handler": rule.spec.handler if rule else None,
        "executor": rule.spec.executor if rule else None,
        "queue": rule.spec.queue if rule else None,
        "set_at": schedule.set_at,
        "changed_at": schedule.changed_at,
        "actor": schedule.actor,
        "reason": schedule.reason,
        "next": [
            {"at": at, "local": _local(schedule, at).isoformat()} for at in _next(schedule, now)
        ],
    }


def rule_text(schedule: Schedule) -> str:
    """Such as `cron 30 2 * * * in Europe/Berlin`, `every 10m`."""
    rule = schedule.rule
    if rule is None or (rule.every_ms is None and rule.cron is None):
        return "a rule that this version does not know"
    if rule.every_ms is not None:
        return f"every {format_duration(rule.every_ms)}"
    return f"cron {one_line(rule.cron)} in {one_line(rule.zone)}"


def next_lines(schedule: Schedule, now: datetime) -> list[str]:
    """A line for each of the instants to come: in its zone, and in UTC."""
    return [
        f"next  {_local(schedule, at):%a %Y-%m-%d %H:%M:%S %Z}  {instant_text(at)}"
        for at in _next(schedule, now)
    ]


def cells(row: dict[str, Any]) -> list[object]:
    """A line of the table, of what `fields` and the projection tell."""
    rule = row["cron"] if row["every_ms"] is None else f"every {format_duration(row['every_ms'])}"
    state = row["state"]
    if state == "paused" and row["reason"]:
        state = f"paused ({one_line(row['reason'])})"
    following = row["next"][0]["local"] if row["next"] else None
    return [
        *(row["name"], state, rule, row["zone"] if row["cron"] else None),
        *(row["handler"], following, row["last_task_id"], row["last_task_state"]),
    ]


def _next(schedule: Schedule, now: datetime) -> list[datetime]:
    if schedule.status != "active" or schedule.since is None:
        return []

    def following(at: datetime | None) -> Any:
        while at is not None and (at := next_instant(schedule, at)) is not None:
            yield at

    return list(islice(following(max(now, schedule.since)), NEXT_COUNT))


def _zone(schedule: Schedule) -> str | None:
    return schedule.rule.zone if schedule.rule is not None else None


def _local(schedule: Schedule, at: datetime) -> datetime:
    try:
        return at.astimezone(zone_of(_zone(schedule) or "UTC"))
    except InvalidInput:
        return at
