"""Requests to roles: chunks at the caller's pace, errors as themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.schemas.errors import InvalidInput


@pytest.fixture
async def opened(server: EmbeddedServer, fleet: str) -> AsyncIterator[Fleet]:
    async with open_fleet(server.target, fleet) as opened:
        yield opened


async def ask(fleet: Fleet, payload: bytes, **options: float) -> list[bytes]:
    return [chunk async for chunk in fleet.services.request("echo", payload, **options)]


async def test_chunks_come_in_order_and_whole(opened: Fleet) -> None:
    async def echo(payload: bytes) -> AsyncIterator[bytes]:
        for n in range(50):
            yield payload * 1000 + str(n).encode()

    async with opened.services.serve("echo", echo):
        assert await ask(opened, b"x") == [b"x" * 1000 + str(n).encode() for n in range(50)]


async def test_a_slow_caller_holds_the_service_back(opened: Fleet) -> None:
    made: list[int] = []

    async def echo(_: bytes) -> AsyncIterator[bytes]:
        for n in range(1000):
            made.append(n)
            yield b"."

    async with opened.services.serve("echo", echo):
        chunks = opened.services.request("echo", b"")
        await anext(chunks)
        await asyncio.sleep(0.2)  # a service that did not wait would run ahead
        assert len(made) < 5
        await chunks.aclose()  # type: ignore[attr-defined]


async def test_an_answer_without_chunks_is_empty(opened: Fleet) -> None:
    async def echo(_: bytes) -> AsyncIterator[bytes]:
        return
        yield b""

    async with opened.services.serve("echo", echo):
        assert await ask(opened, b"") == []


@pytest.mark.parametrize("error", [InvalidInput("wrong word"), ProjectionError("no table")])
async def test_an_error_reaches_the_caller_as_itself(opened: Fleet, error: Exception) -> None:
    async def echo(_: bytes) -> AsyncIterator[bytes]:
        yield b"first"
        raise error

    async with opened.services.serve("echo", echo):
        with pytest.raises(type(error), match=str(error)):
            await ask(opened, b"")


async def test_nobody_serves(opened: Fleet) -> None:
    with pytest.raises(Unavailable, match="nobody"):
        await ask(opened, b"")


async def test_a_service_that_is_silent_times_out(opened: Fleet) -> None:
    async def echo(_: bytes) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with opened.services.serve("echo", echo):
        with pytest.raises(Unavailable, match="within"):
            await ask(opened, b"", timeout_s=0.2)
