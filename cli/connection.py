"""The event loop and the connection of a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import typer
import uvloop

from fleetlog.bus.client import Client
from fleetlog.bus.collector import calm_collector
from fleetlog.cli.flags import settings_of

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; the one place where an event loop begins."""
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


@asynccontextmanager
async def connected(ctx: typer.Context) -> AsyncIterator[Client]:
    """A client of the fleet that the command line means.

    Raises:
        Unavailable: no fleet is there; the message says how to start one.
        ConfigError: a setting or the credentials are wrong.
    """
    async with Client.connect(settings=settings_of(ctx)) as client:
        yield client
