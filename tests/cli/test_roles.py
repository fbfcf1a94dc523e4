"""`agent`, `coordinator` and `projector` as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from support.command_line import HANDLERS, CommandLine, address

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.settings import ENVIRONMENT, Settings

LIFELINE = ENVIRONMENT["lifeline_fd"]


@pytest_asyncio.fixture
async def bare(server: EmbeddedServer, fleet: str, tmp_path: Path) -> AsyncIterator[CommandLine]:
    """The command line of a fleet without any role."""
    (tmp_path / "shown_handlers.py").write_text(HANDLERS)
    environ = {ENVIRONMENT["url"]: address(server.target), ENVIRONMENT["fleet"]: fleet}
    yield CommandLine(tmp_path / "data", **environ)


@contextmanager
def role(cli: CommandLine, *args: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A role that is killed if the test leaves it."""
    process = cli.start(*args, stdout=subprocess.DEVNULL, **options)
    try:
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        assert process.returncode is not None


def said_until(process: subprocess.Popen[bytes], words: str) -> str:
    """What it says up to the first line with these words."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line.decode()
        if words in said:
            return said
    raise AssertionError(said)


def busy_task(cli: CommandLine, flag: Path) -> str:
    """A task that runs until there is such a file; returns when it runs."""
    task_id = cli("submit", "until", json.dumps({"path": str(flag)})).out.strip()
    with cli.start("task", "output", "--follow", task_id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"waiting\n"
        following.terminate()
    return task_id


def state_of(cli: CommandLine, task_id: str) -> str:
    state: str = cli("task", "show", task_id, "--json").value["state"]
    return state


async def test_agent_finishes_what_runs_on_sigterm(bare: CommandLine, tmp_path: Path) -> None:
    await asyncio.to_thread(_finish_on_sigterm, bare, tmp_path)


def _finish_on_sigterm(bare: CommandLine, tmp_path: Path) -> None:
    args = ("agent", "--workers", "1", "--app", "shown_handlers:agent", "--host", "cube")
    with role(bare, *args, "--label", "gpu=yes", cwd=tmp_path) as agent:
        task_id = busy_task(bare, tmp_path / "flag")
        agent.send_signal(signal.SIGTERM)
        said_until(agent, "draining: 1 running")
        (tmp_path / "flag").touch()
        assert agent.wait(30) == 0
    assert state_of(bare, task_id) == "completed"
    events = bare("log", "tail", "--after", "0", "--json").value
    started = next(event for event in events if event["type"] == "agent.started")
    assert (started["host"], started["queues"]) == ("cube", ["default", "host-cube"])
    assert {"gpu": "yes", "host": "cube"}.items() <= started["labels"].items()
    assert started["workers"] == 1
    assert events[-1]["type"] == "agent.stopped"


async def test_agent_gives_back_what_outlasts_its_drain(bare: CommandLine, tmp_path: Path) -> None:
    await asyncio.to_thread(_give_back, bare, tmp_path)


def _give_back(bare: CommandLine, tmp_path: Path) -> None:
    args = ("agent", "--workers", "1", "--app", "shown_handlers:agent", "--drain", "100ms")
    with role(bare, *args, cwd=tmp_path) as agent:
        task_id = busy_task(bare, tmp_path / "never")
        agent.send_signal(signal.SIGINT)
        assert agent.wait(30) == 0
    assert state_of(bare, task_id) == "waiting"


async def test_second_signal_ends_an_agent_at_once(bare: CommandLine, tmp_path: Path) -> None:
    await asyncio.to_thread(_end_at_once, bare, tmp_path)


def _end_at_once(bare: CommandLine, tmp_path: Path) -> None:
    args = ("agent", "--workers", "1", "--app", "shown_handlers:agent", "--drain", "10m")
    with role(bare, *args, cwd=tmp_path) as agent:
        task_id = busy_task(bare, tmp_path / "never")
        agent.send_signal(signal.SIGTERM)
        said_until(agent, "draining: 1 running")
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 1
        assert agent.stderr is not None
        assert "ends at once" in agent.stderr.read().decode()
    assert state_of(bare, task_id) == "claimed"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--app", "nothing"], "--app 'nothing' is not MODULE:AGENT"),
        (["--app", "none_such:agent"], "No module named 'none_such'"),
        (["--queue", "a b"], "queue 'a b' is not valid"),
        (["--host", "a.b"], "host 'a.b' is not valid"),
        (["--label", "x"], "label 'x' is not NAME=VALUE"),
        (["--drain", "soon"], "drain 'soon' is not a duration"),
        (["--workers", "0"], "--workers"),
        (["--workers", "3-2"], "--workers '3-2' is not a number of workers"),
        (["--queue", "gpu:most=2"], "--queue 'gpu:most=2' is not understood at 'most=2'"),
    ],
    ids=" ".join,
)
async def test_wrong_input_is_exit_code_2(bare: CommandLine, args: list[str], says: str) -> None:
    ran = await asyncio.to_thread(bare.run, "agent", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err


@pytest.mark.parametrize("name", ["agent", "coordinator", "projector"])
async def test_role_ends_when_its_up_has_gone(bare: CommandLine, name: str) -> None:
    read_fd, write_fd = os.pipe()
    env = bare.env({LIFELINE: str(read_fd)})
    with role(bare, name, env=env, pass_fds=(read_fd,)) as process:
        os.close(read_fd)
        os.close(write_fd)
        await asyncio.to_thread(said_until, process, "`fleetlog up` has gone")
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_role_of_an_up_waits_for_its_server(nowhere: CommandLine) -> None:
    read_fd, write_fd = os.pipe()
    env = nowhere.env({LIFELINE: str(read_fd)})
    with role(nowhere, "coordinator", env=env, pass_fds=(read_fd,)) as process:
        os.close(read_fd)
        await asyncio.to_thread(said_until, process, "coordinator waits for its server")
        async with EmbeddedServer(Settings(data=nowhere.data)):
            await asyncio.to_thread(said_until, process, "the log is read up to 0")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
    os.close(write_fd)


async def test_signal_ends_the_wait_for_a_server(nowhere: CommandLine) -> None:
    read_fd, write_fd = os.pipe()
    env = nowhere.env({LIFELINE: str(read_fd)})
    with role(nowhere, "projector", env=env, pass_fds=(read_fd,)) as process:
        os.close(read_fd)
        await asyncio.to_thread(said_until, process, "projector waits for its server")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    os.close(write_fd)


async def test_coordinator_queues_what_is_due(bare: CommandLine) -> None:
    await asyncio.to_thread(_queue_due, bare)


def _queue_due(bare: CommandLine) -> None:
    with role(bare, "coordinator") as coordinator:
        task_id = bare("submit", "add", "--delay", "10ms").out.strip()
        args = ("log", "tail", "--follow", "--after", "0", "--count", "2", "--json")
        lines = bare(*args, "--task", task_id).out.splitlines()
        assert [json.loads(line)["type"] for line in lines] == ["task.held", "task.queued"]
        coordinator.send_signal(signal.SIGTERM)
        assert coordinator.wait(30) == 0


async def test_projector_answers_and_rebuilds(bare: CommandLine) -> None:
    await asyncio.to_thread(_project, bare)


def _project(bare: CommandLine) -> None:
    task_id = bare("submit", "quiet").out.strip()
    for flags in ((), ("--rebuild",)):
        with role(bare, "projector", *flags) as projector:
            while (ran := bare.run("sql", "SELECT task_id FROM tasks", "--fresh", "--json")).code:
                assert "no projector answers" in ran.err
            assert ran.value == [{"task_id": task_id}]
            second = bare.run("projector")
            assert second.code == 1
            assert "another" in second.err
            beside = bare.run("projector", "--rebuild")
            assert (beside.code, "goes on with what it rebuilt" in beside.err) == (0, True)
            assert bare("sql", "SELECT task_id FROM tasks", "--json").value == ran.value
            projector.send_signal(signal.SIGTERM)
            assert projector.wait(30) == 0
