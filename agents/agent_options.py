"""What an agent is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from fleetlog.agents.lanes import QueueShare
from fleetlog.agents.strains import Floors


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is told at its start."""

    queues: tuple[str, ...] = ("default",)
    """Which queues it serves, besides its own `host-<name>`."""
    shares: Mapping[str, QueueShare] = {}
    """What part of the agent a queue may have; by default an equal one, without a limit."""
    workers: int = 2
    """How many worker processes; the least, if there is a most."""
    workers_max: int | None = None
    """The most worker processes, when much waits; None: always `workers`."""
    idle_s: float = 60.0
    """A worker above the least that has nothing to do for so long ends."""
    concurrency: int = 1
    """How many attempts at once in each."""
    reserve_high: int = 0
    """So many of all that makes are for tasks of priority high alone."""
    app: str | None = None
    """`module:attribute` of the `Agent` with the handlers."""
    labels: dict[str, str] = {}
    """What it offers, for matching; besides, and rather than, the built-in ones."""
    drain_s: float = 30.0
    """How long running attempts get when it is told to stop."""
    stop_s: float = 15.0
    """From asking one attempt to stop to ending it by force: SIGINT, after two thirds of it SIGTERM."""
    credentials: tuple[str, ...] = ()
    """`NAME=session` or `NAME=key` for credentials of agent CLIs; `session` for those not named."""
    profiles: str | None = None
    """A file with more agent CLIs than the built-in ones."""
    host: str = ""
    """The host's name; the machine's own when empty."""
    worktrees: tuple[Path, ...] = ()
    """Repositories: each attempt of a command gets a worktree of one of them."""
    data: Path | None = None
    """The fleet's folder on this machine, where the worktrees are."""
    floors: Floors = Floors()
    """What it leaves free on its host; with less it takes nothing new."""
    memory_max_bytes: int | None = None
    """What one worker may use with all that it started; None: no limit."""
    environ: Mapping[str, str] = {}
    """The environment of which workers and commands see what an allow-list lets through."""
    version: str = ""
    """Of fleetlog."""
