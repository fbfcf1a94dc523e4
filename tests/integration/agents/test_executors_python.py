"""Python handlers in a real worker process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from support.workers import Running, pool, python_run, run_one

from fleetlog.agents.frames import (
    Cancelled,
    Deferred,
    Failed,
    Outcome,
    Stopped,
    Succeeded,
)
from fleetlog.agents.pool import WorkerPool

APP = """
import asyncio, sys, threading, time
from dataclasses import dataclass
from fleetlog.agents.face import Agent, Cancel, Context, PermanentError, Retry

agent = Agent()

@dataclass
class Point:
    x: int
    y: int = 0

@agent.task
async def add(a: int, b: int = 2) -> int:
    return a + b

@agent.task
def move(point: Point) -> Point:
    return Point(point.x + 1, point.y)

@agent.task
async def about(ctx: Context) -> dict:
    return {"id": ctx.task_id, "attempt": ctx.attempt, "fence": ctx.fence, "key": ctx.idempotency_key,
            "deadline": ctx.deadline, "cancelled": ctx.cancelled}

@agent.task
async def fails():
    raise ValueError("no such disk")

@agent.task
def fails_plain():
    raise PermanentError("bad input file")

@agent.task
async def leaves():
    sys.exit(3)

@agent.task
def leaves_plain():
    raise StopIteration

@agent.task
async def retries(counts: bool = True):
    return Retry(after="10s", reason="rate limit", counts=counts)

@agent.task
async def retries_wrongly():
    return Retry(after="soon")

@agent.task
async def calls_off():
    return Cancel(reason="nothing to do")

@agent.task
async def unreadable():
    return object()

@agent.task
async def huge():
    return "x" * (9 * 1024 * 1024)

@agent.task
async def cancels_itself():
    raise asyncio.CancelledError

@agent.task
async def speaks(name: str, other: str):
    for number in range(50):
        print(name, number)
        print(other, number, file=sys.stderr)
        await asyncio.sleep(0)
    sys.stdout.buffer.write(b"bytes \\xff\\n")
    print("no line end", end="")

@agent.task
def speaks_plain(ctx: Context):
    print("plain")
    ctx.progress(50, "half")
    ctx.log("a line")
    print("surrogate \\ud800")

@agent.task
def floods(count: int):
    line = "y" * 1000
    for _ in range(count):
        print(line)

@agent.task
async def sleeps(ctx: Context):
    ctx.progress(1, "asleep")
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaning up")

@agent.task
async def insists(ctx: Context):
    ctx.progress(1, "asleep")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "finished all the same"

@agent.task
def looks(ctx: Context):
    ctx.progress(1, "asleep")
    while not ctx.cancelled:
        time.sleep(0.01)

@agent.task
async def nothing():
    pass

@agent.task
def meets(party: dict):
    barrier.wait(10)
    return True

barrier = threading.Barrier(2)
"""


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    (tmp_path / "handlers_app.py").write_text(APP)
    async with pool(tmp_path, app="handlers_app:agent", concurrency=256) as running:
        yield running


async def outcome(workers: WorkerPool, handler: str, args: object = None) -> Outcome:
    done, _ = await run_one(workers, python_run(handler, args))
    return done.outcome


async def test_handlers_get_typed_arguments_and_give_json(workers: WorkerPool) -> None:
    assert await outcome(workers, "add", {"a": 1}) == Succeeded(b"3")
    assert await outcome(workers, "move", {"point": {"x": 1}}) == Succeeded(b'{"x":2,"y":0}')


async def test_the_pool_knows_the_handlers_schemas(workers: WorkerPool) -> None:
    assert {"add", "move"} <= set(workers.handlers)
    assert msgspec.json.decode(workers.handlers["about"])["$defs"]["about"]["properties"] == {}


async def test_a_context_tells_the_attempt(workers: WorkerPool) -> None:
    deadline = datetime(2030, 1, 1, tzinfo=UTC)
    run = python_run("about", task_id="t1", attempt=3, fence=77, deadline=deadline)
    done, _ = await run_one(workers, run)
    assert isinstance(done.outcome, Succeeded)
    assert msgspec.json.decode(done.outcome.result) == {
        "id": "t1",
        "attempt": 3,
        "fence": 77,
        "key": "t1",
        "deadline": "2030-01-01T00:00:00Z",
        "cancelled": False,
    }


@pytest.mark.parametrize(
    ("handler", "args", "error_class", "is_permanent", "text"),
    [
        ("fails", None, "error", False, "ValueError: no such disk\n\nTraceback"),
        ("fails_plain", None, "permanent", True, "PermanentError: bad input file"),
        ("leaves", None, "error", False, "SystemExit: 3"),
        ("leaves_plain", None, "error", False, "StopIteration"),
        ("retries_wrongly", None, "error", False, "'soon' is not a duration"),
        (
            "unreadable",
            None,
            "unreadable_result",
            True,
            "of type object, cannot be written as JSON",
        ),
        ("huge", None, "unreadable_result", True, "at most 8388608 are allowed"),
        ("cancels_itself", None, "error", False, "cancelled by something it awaited"),
        ("add", {"a": "x"}, "invalid_input", True, "at `$.a`"),
        ("ad", None, "unknown_handler", True, "did you mean add"),
    ],
)
async def test_failures_say_what_and_whether_for_good(
    workers: WorkerPool,
    handler: str,
    args: object,
    error_class: str,
    is_permanent: bool,
    text: str,
) -> None:
    failed = await outcome(workers, handler, args)
    assert isinstance(failed, Failed)
    assert (failed.error_class, failed.is_permanent) == (error_class, is_permanent)
    assert text in failed.error


async def test_a_traceback_shows_the_handlers_code_only(workers: WorkerPool) -> None:
    failed = await outcome(workers, "fails")
    assert isinstance(failed, Failed)
    assert "handlers_app.py" in failed.error
    assert "executors" not in failed.error


async def test_answers_other_than_results(workers: WorkerPool) -> None:
    assert await outcome(workers, "retries") == Failed("error", "rate limit", delay_ms=10_000)
    assert await outcome(workers, "retries", {"counts": False}) == Deferred("rate limit", 10_000)
    assert await outcome(workers, "calls_off") == Cancelled("nothing to do")


async def test_prints_of_attempts_that_run_at_once_do_not_mix(workers: WorkerPool) -> None:
    args = [{"name": f"n{number}", "other": f"o{number}"} for number in range(20)]
    ended = await asyncio.gather(*(run_one(workers, python_run("speaks", each)) for each in args))
    for each, (done, heard) in zip(args, ended, strict=True):
        assert done.outcome == Succeeded(b"null")
        wanted = "".join(f"{each['name']} {n}\n" for n in range(50)) + "bytes \ufffd\nno line end"
        assert heard.text("stdout") == wanted
        assert heard.text("stderr") == "".join(f"{each['other']} {n}\n" for n in range(50))


async def test_a_plain_functions_output_progress_and_log_arrive(workers: WorkerPool) -> None:
    _, heard = await run_one(workers, python_run("speaks_plain"))
    chunks = [(chunk.stream, chunk.text, chunk.pct) for chunk in heard.chunks]
    assert chunks == [
        ("stdout", "plain\n", None),
        ("progress", "half", 50.0),
        ("log", "a line\n", None),
        ("stdout", "surrogate ?\n", None),
    ]


async def test_a_thread_that_floods_waits_for_the_reader_and_loses_nothing(
    workers: WorkerPool,
) -> None:
    slot = await workers.acquire()
    running = Running(slot.worker, python_run("floods", {"count": 20_000}))
    await running.heard.until("yyy")
    slot.worker.wire.pause_reading()
    # Long enough for it to fill the pipe and all that is before it: 20 MB take less.
    await asyncio.sleep(0.2)
    slot.worker.wire.resume_reading()
    await running.done()
    assert len(running.heard.text()) == 20_000 * 1001
    assert max(len(chunk.text) for chunk in running.heard.chunks) <= 65_536


@pytest.mark.parametrize(
    ("handler", "wanted"),
    [
        ("sleeps", Stopped()),
        ("looks", Stopped()),
        ("insists", Succeeded(b'"finished all the same"')),
    ],
)
async def test_a_stop_ends_an_attempt_unless_it_has_a_result(
    workers: WorkerPool, handler: str, wanted: Outcome
) -> None:
    slot = await workers.acquire()
    running = Running(slot.worker, python_run(handler))
    await running.heard.until("asleep")
    slot.worker.stop(running.run.run_id, "cancel")
    done = await running.done()
    assert done.outcome == wanted
    assert ("cleaning up" in running.heard.text()) == (handler == "sleeps")


async def test_a_stop_that_overtakes_the_start_ends_the_attempt(workers: WorkerPool) -> None:
    slot = await workers.acquire()
    running = Running(slot.worker, python_run("sleeps"))
    await asyncio.sleep(0)
    slot.worker.stop(running.run.run_id, "drain")
    assert (await running.done()).outcome == Stopped()
    slot.worker.stop(running.run.run_id, "drain")


async def test_plain_functions_run_at_once_in_one_worker(workers: WorkerPool) -> None:
    first, second = await asyncio.gather(
        run_one(workers, python_run("meets", {"party": {}})),
        run_one(workers, python_run("meets", {"party": {}})),
    )
    assert first[0].outcome == second[0].outcome == Succeeded(b"true")


async def test_an_executor_that_is_not_there_is_named(workers: WorkerPool) -> None:
    run = msgspec.structs.replace(python_run("x"), executor="pyton")
    done, _ = await run_one(workers, run)
    assert done.outcome == Failed(
        "unknown_handler", "no executor 'pyton' here; did you mean python?", is_permanent=True
    )


async def test_a_thousand_attempts_share_one_worker(
    workers: WorkerPool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one() -> Outcome:
        slot = await workers.acquire()
        try:
            return (await slot.worker.run(python_run("nothing"))).outcome
        finally:
            slot.release()

    started_at = time.perf_counter()
    outcomes = await asyncio.gather(*(one() for _ in range(1000)))
    rate = 1000 / (time.perf_counter() - started_at)
    assert set(map(type, outcomes)) == {Succeeded}
    assert workers.free_count == 256
    with capsys.disabled():
        print(f"\n{rate:,.0f} no-op attempts a second through one worker")


async def test_without_an_app_only_commands_run() -> None:
    async with pool() as workers:
        done, _ = await run_one(workers, python_run("add"))
        assert done.outcome == Failed(
            "unknown_handler", "no handler 'add' here; there is none", is_permanent=True
        )
