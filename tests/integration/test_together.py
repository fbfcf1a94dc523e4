"""Appending together: what no number of tries would bring into the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.servers import plain_server

from fleetlog.bus.background import background
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.log import JetStreamLog
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.log import Append, entry
from fleetlog.bus.system import System
from fleetlog.schemas.events import LimitAdmitted, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject

SYSTEM = System()
USERS = """
authorization { users: [
  { user: all, password: p }
  { user: no-limits, password: p, permissions: { publish: { deny: ["fleetlog.*.limit.>"] } } }
] }
"""


@asynccontextmanager
async def log_of(url: str, user: str) -> AsyncIterator[JetStreamLog]:
    target = Target(url=url.replace("//", f"//{user}:p@"))
    async with connect(target, SYSTEM.clock) as connection:
        await ensure_streams(connection, "main")
        log = JetStreamLog(connection, "main", is_grouping=True)
        await log.appender.start()
        await log.together.start()
        async with background(log.appender.watch()):
            yield log


def queued(log: JetStreamLog, handler: str = "h") -> Append:
    spec = TaskSpec(handler=handler)
    event = TaskQueued(id="q", occurred_at=log.now(), spec=spec, digest="d")
    return entry(Subject("main", "task", "t", "queued", "default", "normal"), 0, event)


def admitted(log: JetStreamLog) -> Append:
    event = LimitAdmitted(id=SYSTEM.new_id(), occurred_at=log.now(), key="k", tasks=("t",))
    return entry(Subject("main", "limit", "k", "admitted"), 0, event)


async def test_what_the_server_does_not_let_through_is_named(tmp_path: Path) -> None:
    async with plain_server(tmp_path, USERS) as url:
        async with log_of(url, "no-limits") as log, asyncio.timeout(10):
            with pytest.raises(
                ConfigError, match=r"no permission to publish to fleetlog\.main\.limit"
            ):
                await log.append_together([queued(log), admitted(log)])
        async with log_of(url, "all") as log:
            assert await log.end() == 0
            assert await log.append_together([queued(log), admitted(log)]) == 2


async def test_what_is_too_large_is_refused_before_the_server_closes_the_connection(
    tmp_path: Path,
) -> None:
    async with plain_server(tmp_path, USERS) as url, log_of(url, "all") as log:
        single = log.append(queued(log))
        async with asyncio.timeout(10):
            with pytest.raises(TransportError, match="the server takes"):
                await log.append_together([queued(log, "h" * 2**20), admitted(log)])
            assert await single == 1
