"""The pool: workers come, die, are replaced, and leave nothing behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.workers import (
    Happenings,
    Running,
    command_run,
    is_alive,
    options,
    pool,
    python_run,
    run_one,
    until_gone,
)

from fleetlog.agents.frames import Done, Stopped, Succeeded
from fleetlog.agents.pool import WorkerPool
from fleetlog.agents.worker_process import WorkerDied, WorkerTimes
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import Process, System

QUICK = WorkerTimes(start_s=30, exit_s=0.3, grace_s=0.3)

APP = """
import os, signal, subprocess, time
from fleetlog.agents.face import Agent, Context

agent = Agent()

@agent.task
def blocks(ctx: Context):
    ctx.log("blocked")
    time.sleep(60)

@agent.task
async def blocks_loop(ctx: Context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(2, b"")
    time.sleep(60)

@agent.task
def starts_children(ctx: Context):
    child = subprocess.Popen(["sleep", "60"])
    ctx.log(str(child.pid))
    time.sleep(60)

@agent.task
async def scribbles():
    for fd in range(3, 30):
        try:
            os.write(fd, b"\\xff" * 64)
        except OSError:
            pass

@agent.task
async def crashes():
    os._exit(9)

@agent.task
async def works():
    return "fine"
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "pool_app.py").write_text(APP)
    return tmp_path


async def test_workers_are_kept_at_their_number_and_named_upwards() -> None:
    events = Happenings()
    async with pool(events=events, size=3) as workers:
        assert [worker.worker_id for worker in workers.workers] == ["w1", "w2", "w3"]
        assert workers.free_count == 3
        worker = workers.workers[1]
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert await events.exited.get() == ("w2", worker.pid, None, signal.SIGKILL)
        while (spawned := await events.spawned.get())[0] != "w4":
            pass
        pids = [each.pid for each in workers.workers]
    assert spawned[1] in pids
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    codes = [(await events.exited.get())[2:] for _ in range(3)]
    assert codes == [(0, None)] * 3


async def test_a_worker_killed_under_an_attempt_is_told_replaced_and_its_command_ended() -> None:
    async with pool(times=QUICK) as workers:
        slot = await workers.acquire()
        running = Running(
            slot.worker, command_run("sh", "-c", "trap '' TERM; echo $$; sleep 60 & wait; wait")
        )
        await running.heard.until("\n")
        await running.started.wait()
        command = int(running.heard.text())
        assert slot.worker.pid is not None
        os.kill(slot.worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="worker w1 ended with SIGKILL") as died:
            await running.done()
        assert (died.value.exit_code, died.value.signal) == (None, signal.SIGKILL)
        await until_gone(command)
        slot.release()
        done, _ = await run_one(workers, command_run("echo", "next"))
        assert done.outcome == Succeeded(b'"next"')


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find it")
async def test_a_killed_workers_process_that_left_its_group_is_found() -> None:
    async with pool(times=QUICK) as workers:
        slot = await workers.acquire()
        code = "import subprocess as s; print(s.Popen(['sleep','60'],start_new_session=True).pid)"
        script = f'"{sys.executable}" -c "{code}"; sleep 60'
        running = Running(slot.worker, command_run("sh", "-c", script))
        await running.heard.until("\n")
        assert slot.worker.pid is not None
        os.kill(slot.worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await running.done()
        await until_gone(int(running.heard.text()))


async def test_a_result_said_before_death_counts(app: Path) -> None:
    async with pool(app, app="pool_app:agent", concurrency=2, times=QUICK) as workers:
        slot = await workers.acquire()
        first = Running(slot.worker, python_run("works"))
        second = Running(slot.worker, python_run("crashes"))
        with pytest.raises(WorkerDied) as died:
            await second.done()
        assert (died.value.exit_code, died.value.signal) == (9, None)
        ended = await asyncio.gather(first.done(), return_exceptions=True)
        assert isinstance(ended[0], Done | WorkerDied)


async def test_an_attempt_given_to_a_dead_worker_is_told_at_once(app: Path) -> None:
    async with pool(app, app="pool_app:agent", times=QUICK) as workers:
        slot = await workers.acquire()
        slot.worker.kill()
        await slot.worker.wait_ended()
        with pytest.raises(WorkerDied):
            await slot.worker.run(python_run("works"))


@pytest.mark.parametrize("handler", ["blocks", "blocks_loop"])
async def test_a_handler_that_does_not_obey_is_killed_with_its_worker(
    app: Path, handler: str
) -> None:
    async with pool(app, app="pool_app:agent", times=QUICK) as workers:
        slot = await workers.acquire()
        running = Running(slot.worker, python_run(handler))
        if handler == "blocks":
            await running.heard.until("blocked")
        slot.worker.stop(running.run.run_id, "timeout")
        slot.worker.kill()
        assert slot.worker.state == "stopping"
        with pytest.raises(WorkerDied):
            await running.done()
        done, _ = await run_one(workers, python_run("works"))
        assert done.outcome == Succeeded(b'"fine"')


async def test_children_of_a_handler_end_with_its_worker(app: Path) -> None:
    async with pool(app, app="pool_app:agent", times=QUICK) as workers:
        slot = await workers.acquire()
        running = Running(slot.worker, python_run("starts_children"))
        while not running.heard.text().strip():
            await running.heard.until("")
            await asyncio.sleep(0.02)
        child = int(running.heard.text())
        slot.worker.kill()
        with pytest.raises(WorkerDied):
            await running.done()
        await until_gone(child)


async def test_a_worker_that_speaks_nonsense_is_replaced(app: Path) -> None:
    async with pool(app, app="pool_app:agent", times=QUICK) as workers:
        slot = await workers.acquire()
        running = Running(slot.worker, python_run("scribbles"))
        with pytest.raises(WorkerDied):
            await running.done()
        slot.release()
        done, _ = await run_one(workers, python_run("works"))
        assert done.outcome == Succeeded(b'"fine"')


async def test_beats_show_what_each_worker_does(app: Path) -> None:
    async with pool(app, app="pool_app:agent", concurrency=2, times=QUICK) as workers:
        slot = await workers.acquire()
        assert workers.beats()[0].state == "idle"
        first = Running(slot.worker, python_run("blocks", task_id="old", attempt=2))
        await first.heard.until("blocked")
        second = Running(slot.worker, command_run("sleep", "60"))
        await second.started.wait()
        (beat,) = workers.beats()
        assert (beat.worker_id, beat.pid, beat.state) == ("w1", slot.worker.pid, "busy")
        assert (beat.running, beat.task_id, beat.attempt) == (2, "old", 2)
        slot.worker.kill()
        with pytest.raises(WorkerDied):
            await first.done()
        assert (await second.done()).outcome == Stopped(), "its worker had a moment to end it"


async def test_slots_are_given_to_the_worker_with_the_least_and_waited_for() -> None:
    async with pool(size=2, concurrency=2) as workers:
        slots = [workers.try_acquire() for _ in range(5)]
        held = [slot for slot in slots if slot is not None]
        assert [slot.worker_id for slot in held] == ["w1", "w2", "w1", "w2"]
        assert workers.free_count == 0
        waiting = asyncio.ensure_future(workers.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        held[1].release()
        held[1].release()
        assert (await waiting).worker_id == "w2"
        assert workers.free_count == 0


async def test_slots_of_a_dead_worker_come_back_with_the_new_one() -> None:
    async with pool(times=QUICK) as workers:
        slot = await workers.acquire()
        slot.worker.kill()
        again = await workers.acquire()
        assert again.worker_id == "w2"
        slot.release()
        assert workers.free_count == 0


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("import no_such_module", "broken_app:agent", "No module named 'no_such_module'"),
        ("def (", "broken_app:agent", "SyntaxError"),
        ("raise SystemExit(3)", "broken_app:agent", "SystemExit: 3"),
        ("agent = 3", "broken_app:agent", "agent in broken_app is a int"),
        ("", "broken_app:agent", "agent in broken_app is nothing"),
        ("", "broken_app", "is not module:attribute"),
        ("import os; os._exit(4)", "broken_app:agent", "ended before it was ready"),
        (
            "from fleetlog.agents.face import Agent\nagent = Agent()\n@agent.task\ndef f(*a): ...",
            "broken_app:agent",
            "takes no argument by name",
        ),
    ],
)
async def test_an_app_that_cannot_be_loaded_is_a_configuration_error(
    tmp_path: Path, source: str, name: str, text: str
) -> None:
    (tmp_path / "broken_app.py").write_text(source)
    events = Happenings()
    with pytest.raises(ConfigError) as error:
        async with pool(tmp_path, app=name, events=events, size=2, times=QUICK):
            pass
    assert text in str(error.value)
    pids = [(await events.spawned.get())[1] for _ in range(events.spawned.qsize())]
    assert pids
    assert not any(map(is_alive, pids))


class NoProcesses:
    """A machine that has had enough."""

    async def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> Process:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


async def test_a_machine_that_starts_no_process_is_a_configuration_error() -> None:
    system = System(processes=NoProcesses())
    with pytest.raises(ConfigError, match=r"cannot be started: .*temporarily unavailable"):
        async with WorkerPool(options(size=2), system=system, events=Happenings()):
            pass


async def test_a_worker_that_is_not_ready_in_time_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "slow_app.py").write_text("import time; time.sleep(60)")
    times = WorkerTimes(start_s=0.5, exit_s=0.3, grace_s=0.3)
    with pytest.raises(ConfigError, match="before it was ready"):
        async with pool(tmp_path, app="slow_app:agent", times=times):
            pass


async def test_workers_that_crash_in_a_row_are_started_more_and_more_slowly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "turning_app.py").write_text(
        "from pathlib import Path\nfrom fleetlog.agents.face import Agent\n"
        f"assert not Path({str(tmp_path / 'bad')!r}).exists(), 'turned bad'\nagent = Agent()"
    )
    events = Happenings()
    async with pool(tmp_path, app="turning_app:agent", events=events, times=QUICK) as workers:
        (tmp_path / "bad").touch()
        workers.workers[0].kill()
        with caplog.at_level(logging.ERROR, "fleetlog.agents"):
            for _ in range(4):
                await events.exited.get()
            # The one that was killed did not crash; the third that did is the fourth.
            async with asyncio.timeout(10):
                while not (waiting := [b for b in workers.beats() if b.state == "backing_off"]):  # noqa: ASYNC110 - only the pool knows
                    await asyncio.sleep(0)
        assert [(b.worker_id, b.pid, b.crashes) for b in waiting] == [("w4", None, 3)]
        (tmp_path / "bad").unlink()
        slot = await workers.acquire()
        assert int(slot.worker_id[1:]) >= 5
        assert {beat.state for beat in workers.beats()} == {"idle"}
    assert events.reasons[:4] == ["ended with an attempt", *["ended before it was ready"] * 3]
    assert events.reasons[-1] == "its agent ended it"
    assert "turned bad" in caplog.text
    assert "2 workers crashed in a row: the next in 0.1 s" in caplog.messages
    assert "3 workers crashed in a row: the next in 0.2 s" in caplog.messages


async def test_a_pool_grows_and_only_idle_workers_leave(app: Path) -> None:
    events = Happenings()
    async with pool(app, app="pool_app:agent", events=events, times=QUICK) as workers:
        slot = await workers.acquire()
        running = Running(slot.worker, command_run("sleep", "60"))
        async with asyncio.timeout(30):
            await running.started.wait()
            assert workers.resize(4) == 4
            others = {s.worker_id: s for s in [await workers.acquire() for _ in range(3)]}
        assert (slot.worker_id, set(others)) == ("w1", {"w2", "w3", "w4"})
        others["w2"].release()
        others["w3"].release()
        # Of the two that are idle the one that was named leaves; then the other, although one is wanted.
        assert workers.resize(3, leaving=("w1", "w2")) == 3
        assert workers.resize(1) == 2
        assert workers.free_count == 0
        async with asyncio.timeout(30):
            gone = {(await events.exited.get())[0] for _ in range(2)}
        assert gone == {"w2", "w3"}
        assert events.reasons == ["there was nothing for it to do"] * 2
        assert workers.resize(3) == 3
        assert (await workers.acquire()).worker_id == "w5"
        assert is_alive(slot.worker.pid or 0)
        slot.worker.stop(running.run.run_id, "cancel")
        assert isinstance((await running.done()).outcome, Stopped)
    assert events.spawned.qsize() == 5


async def test_a_worker_that_is_wanted_again_while_it_leaves_gets_a_successor(app: Path) -> None:
    events = Happenings()
    async with pool(app, app="pool_app:agent", size=2, events=events, times=QUICK) as workers:
        assert workers.resize(1) == 1
        assert workers.resize(2) == 2
        async with asyncio.timeout(30):
            held = [await workers.acquire(), await workers.acquire()]
        assert [slot.worker_id for slot in held] == ["w1", "w3"]
        assert workers.try_acquire() is None
    assert workers.resize(5) == 2
    assert events.spawned.qsize() == 3


async def test_closing_ends_what_runs_and_what_does_not_obey(app: Path) -> None:
    async with pool(app, app="pool_app:agent", size=2, times=QUICK) as workers:
        slot, other = await workers.acquire(), await workers.acquire()
        stuck = Running(slot.worker, python_run("blocks_loop"))
        command = Running(
            other.worker,
            command_run("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"),
        )
        await command.heard.until("\n")
        pids = [worker.pid for worker in workers.workers]
    for running in (stuck, command):
        ended = await asyncio.gather(running.done(), return_exceptions=True)
        assert isinstance(ended[0], WorkerDied | Done)
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    await until_gone(int(command.heard.text()))


async def test_a_pool_whose_owner_is_cancelled_leaves_nothing(app: Path) -> None:
    events = Happenings()
    is_open = asyncio.Event()

    async def own() -> None:
        async with pool(app, app="pool_app:agent", size=2, events=events, times=QUICK):
            is_open.set()
            await asyncio.Event().wait()

    owner = asyncio.ensure_future(own())
    await is_open.wait()
    owner.cancel()
    await asyncio.sleep(0)
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    pids = [(await events.spawned.get())[1] for _ in range(2)]
    assert not any(map(is_alive, pids))


async def test_a_pool_closed_while_it_starts_leaves_nothing() -> None:
    events = Happenings()
    opening = asyncio.ensure_future(pool(events=events, size=3, times=QUICK).__aenter__())
    pids = [(await events.spawned.get())[1] for _ in range(3)]
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not any(map(is_alive, pids))


async def test_the_workers_output_stays_off_the_agents_stdout(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    (tmp_path / "loud_app.py").write_text(
        "import os\nfrom fleetlog.agents.face import Agent\nagent = Agent()\n"
        "print('loud module')\nos.system('echo loud command')"
    )
    script.write_text(OWNER)
    process = await _start_owner(script, "loud_app:agent")
    line = await process.stdout.readline() if process.stdout else b""
    assert line.split()[0].isdigit()
    process.kill()
    stdout, _ = await process.communicate()
    assert b"loud" not in line + stdout


OWNER = """
import asyncio, os, sys
sys.path.insert(0, os.environ["TESTS"])
from support.workers import Running, command_run, pool, python_run

async def main():
    async with pool(app=sys.argv[1], concurrency=4, size=2) as workers:
        slots = [await workers.acquire() for _ in range(4)]
        if workers.handlers:
            Running(slots[0].worker, python_run("blocks_loop"))
        commands = [Running(slot.worker, command_run("sh", "-c", "echo $$; sleep 600")) for slot in slots[1:2]]
        for command in commands:
            await command.heard.until("\\n")
        pids = [worker.pid for worker in workers.workers]
        print(*pids, *(int(command.heard.text()) for command in commands), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def _start_owner(script: Path, app: str) -> asyncio.subprocess.Process:
    tests = Path(__file__).parents[2]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, script, app),
        env={**os.environ, "TESTS": str(tests), "PYTHONPATH": str(script.parent)},
        stdout=asyncio.subprocess.PIPE,
    )


async def test_a_killed_supervisor_leaves_no_process_even_with_a_blocked_loop(app: Path) -> None:
    script = app / "owner.py"
    script.write_text(OWNER)
    process = await _start_owner(script, "pool_app:agent")
    assert process.stdout is not None
    pids = [int(pid) for pid in (await process.stdout.readline()).split()]
    assert len(pids) == 3
    process.kill()
    await process.wait()
    for pid in pids:
        await until_gone(pid, 20)
