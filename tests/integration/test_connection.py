"""Requests over a connection to the real server."""

from __future__ import annotations

import asyncio

from fleetlog.bus.background import heeding_cancel
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.system import SystemClock


async def test_cancel_that_comes_with_the_answer_is_heeded() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asking = asyncio.ensure_future(heeding_cancel(asyncio.wait_for(answer, 60)))
    await asyncio.sleep(0)
    answer.set_result(1)
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()


async def test_request_in_a_cancelled_task_still_has_its_answer(server: EmbeddedServer) -> None:
    answers = []

    async def clean_up() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            answers.append(await connection.request("$JS.API.INFO"))

    async with connect(server.target, SystemClock()) as connection:
        task = asyncio.ensure_future(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
    assert task.cancelled()
    assert b"account_info_response" in answers[0]
