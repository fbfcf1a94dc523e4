"""The SQL of this folder, one statement per file under `sql/`, and what tells one layout from another."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

from fleetlog.schemas.events import EVENT_TYPES, SCHEMA_VERSION
from fleetlog.schemas.subjects import VERBS

TABLES: Final = (
    *("queues", "derived_queues"),
    *("meta", "events", "open_tasks", "settled_tasks", "ended_attempts"),
    *("known_agents", "known_workers", "heartbeats", "allowances"),
    *("known_barriers", "named_members", "member_outcomes"),
    *("known_limits", "known_budgets"),
)
"""Under `sql/tables`, in the order of creation."""

RELATIONS: Final = (
    *("views/tasks", "views/attempts", "views/agents", "views/workers"),
    *("intervals/waits", "intervals/shifts", "intervals/stints"),
    *("views/queue_depth", "views/throughput_by_minute", "views/success_rate", "views/latency"),
    *("views/speedup", "views/cost", "views/queue_history", "views/utilization"),
    *("views/credentials", "views/queue_scalings", "views/queue_requirements"),
    *("views/limits", "views/budgets"),
    *("barriers/members", "views/barrier_members", "views/barriers"),
    "views/schedules",
)
"""Under `sql`, in the order of creation: a view stands after those it reads. `intervals` are what views count
times by, `barriers` what they know of members, in the schema `store`."""

VIEWS: Final = tuple(name.removeprefix("views/") for name in RELATIONS if name.startswith("views/"))
"""What people see beside the tables of their own: `events`, `queues`, `derived_queues` and `heartbeats`."""

MACROS: Final = (
    *("permits", "ending", "ends_attempt", "state_after", "evolve"),
    "key_token",
)
"""Under `sql/macros`, in the order of creation."""

SURFACE: Final[dict[str, str]] = {
    "events": "seq",
    "tasks": "task_id",
    "attempts": "task_id, fence",
    "agents": "agent_id",
    "workers": "agent_id, worker_id",
    "queues": "queue",
    "derived_queues": "queue",
    **dict.fromkeys(VIEWS[4:], "ALL"),
}
"""What a rebuild reproduces, with the order of its rows; `heartbeats` are not in the log."""


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`, such as `steps/add_events`."""
    return (files("fleetlog.projections") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def documentation() -> dict[str, dict[str, str]]:
    """What each table and view is, under the empty name, and each of its columns."""
    text = (files("fleetlog.projections") / "sql" / "documentation.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def layout() -> str:
    """A digest of everything that decides which rows a log leads to; another one means: rebuild."""
    parts = [f"events {SCHEMA_VERSION} {sorted(EVENT_TYPES)}"]
    parts += [f"{kind} {sorted(verbs)}" for kind, verbs in sorted(VERBS.items())]
    folders = ("tables", "views", "intervals", "barriers", "macros", "steps")
    for folder in folders:
        entries = (files("fleetlog.projections") / "sql" / folder).iterdir()
        parts += [statement(f"{folder}/{name}") for name in sorted(_stem(e.name) for e in entries)]
    parts.append(repr(documentation()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _stem(name: str) -> str:
    return name.removesuffix(".sql")
