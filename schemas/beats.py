"""Heartbeats: an agent's sign of life, once a second, with the state of each worker. Not part of the log."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fleetlog.schemas.events import Instant, Usage


class WorkerBeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One worker at the time of the beat."""

    worker_id: str
    """Unique within its agent."""
    pid: int | None = None
    """None while it starts, or backs off."""
    state: Literal["starting", "idle", "busy", "stopping", "backing_off"]
    """What it does; `backing_off`: it crashed, as others did before it, and the next one waits."""
    running: int = 0
    """How many attempts run in it."""
    task_id: str | None = None
    """The oldest attempt that runs in it."""
    attempt: int | None = None
    """Of that task."""
    usage: Usage | None = None
    """What that attempt has used so far, where it says so."""
    output_at: Instant | None = None
    """When that attempt last gave output or a sign of life."""
    rss_bytes: int | None = None
    """Memory of the worker and of all that it started; None where the system does not tell."""
    cpu_s: float | None = None
    """Processor time of these so far."""
    crashes: int = 0
    """How many crashed in a row in this one's place, itself included, while it backs off."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent at one instant."""

    agent_id: str
    """The incarnation."""
    host: str
    """The host's name."""
    occurred_at: Instant
    """The agent's clock."""
    state: Literal["running", "draining"] = "running"
    """What it does."""
    workers: tuple[WorkerBeat, ...] = ()
    """Its worker processes."""


class CoordinatorBeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The active coordinator at one instant. Beside agents' beats, so that it hears itself as it hears them."""

    coordinator_id: str
    """This run of it."""
    host: str
    """The host's name."""
    occurred_at: Instant
    """Its clock."""
    term: int
    """Grows by one each time another one takes over."""
    is_active: bool = True
    """False: it has ended in order, and any other may take over at once."""


class StoredBeat(msgspec.Struct, frozen=True):
    """A beat and when the server received it."""

    stored_at: datetime
    """The server's time."""
    beat: Beat
    """What was said."""


class OutputChunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of an attempt's output."""

    stream: Literal["stdout", "stderr", "log", "progress"]
    """Where it came from."""
    text: str
    """Whole lines where the attempt wrote lines; bytes that are not UTF-8 are replaced."""
    occurred_at: Instant
    """The worker's clock."""
    pct: float | None = None
    """0 to 100, of progress."""
