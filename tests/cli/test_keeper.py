"""The keeper and the lifeline, with small real processes for roles."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import child_environment
from fleetlog.cli.keeper import Keeper, Role, describe_exit
from fleetlog.cli.lifeline import Lifeline, watch_lifeline

ROLE = """
import signal, sys, time
name, journal, behaviour = sys.argv[1:]

def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what}\\n")

def end(number, frame):
    note("ends")
    sys.exit(0)

signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else end)
note("starts")
if behaviour.isdecimal():
    sys.exit(int(behaviour))
while True:
    signal.pause()
"""


class Stage:
    """Runs a keeper, and awaits what its roles write into a journal."""

    def __init__(self, folder: Path) -> None:
        self._journal = folder / "journal"
        self._journal.touch()
        self.said: list[str] = []

    def role(self, name: str, behaviour: str = "good", drain_s: float = 10.0) -> Role:
        argv = (sys.executable, "-c", ROLE, name, str(self._journal), behaviour)
        return Role(name=name, argv=argv, drain_s=drain_s)

    def keeper(self, *roles: Role) -> Keeper:
        return Keeper(roles, env=child_environment({}), say=self.said.append)

    @property
    def lines(self) -> list[str]:
        return self._journal.read_text().splitlines()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for something that other processes do."""
        async with asyncio.timeout(20):
            # What another process does sets no event here.
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def until_started(self, count: int) -> None:
        await self.until(lambda: sum(line.endswith("starts") for line in self.lines) >= count)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_roles_end_in_reverse_order(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("first"), stage.role("second"), stage.role("third"))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        await stage.until_started(3)
        assert list(keeper.pids) == ["first", "second", "third"]
        keeper.stop()
    assert stage.lines[3:] == ["third ends", "second ends", "first ends"]
    assert keeper.pids == {}
    assert stage.said == []


async def test_all_roles_are_started_when_it_says_so(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("first"), stage.role("second"))
    started: list[int] = []

    def note() -> None:
        started.append(len(keeper.pids))
        keeper.stop()

    await keeper.run(note)
    assert started == [2]


async def test_killed_role_comes_back_within_two_seconds(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("steady"), stage.role("killed"))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        await stage.until_started(2)
        before = keeper.pids
        os.kill(before["killed"], signal.SIGKILL)
        killed_at = time.monotonic()
        await stage.until_started(3)
        assert time.monotonic() - killed_at < 2
        after = keeper.pids
        keeper.stop()
    assert after["steady"] == before["steady"]
    assert after["killed"] != before["killed"]
    assert stage.said == ["killed was killed by SIGKILL; starting it again"]


async def test_role_that_keeps_dying_is_started_again_ever_more_slowly(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("crashing", "3"))
    async with asyncio.TaskGroup() as group:
        started_at = time.monotonic()
        group.create_task(keeper.run())
        await stage.until_started(4)
        # The pauses before the second to fourth start.
        assert time.monotonic() - started_at > 0.1 + 0.2 + 0.4
        keeper.stop()
    assert set(stage.said) == {"crashing ended with exit code 3; starting it again"}


async def test_role_that_refuses_its_options_stops_everything(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("good"), stage.role("misled", "2"))
    with pytest.raises(ConfigError, match="the misled does not start with these options"):
        await keeper.run()
    assert stage.lines.count("misled starts") == 1
    assert keeper.pids == {}


async def test_role_that_does_not_end_in_time_is_killed(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("good"), stage.role("deaf", "deaf", drain_s=0.2))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        await stage.until_started(2)
        keeper.stop()
    assert stage.said == ["deaf did not end within 0.2 s and is killed"]
    assert stage.lines[2:] == ["good ends"]


async def test_hurry_does_not_wait(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("good"), stage.role("deaf", "deaf", drain_s=600))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        await stage.until_started(2)
        keeper.stop()
        keeper.hurry()
    assert keeper.pids == {}


async def test_cancelled_keeper_leaves_no_process(stage: Stage) -> None:
    keeper = stage.keeper(stage.role("deaf", "deaf"))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run())
        await stage.until_started(1)
        pid = keeper.pids["deaf"]
        running.cancel()
    await stage.until(lambda: keeper.pids == {})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_role_that_cannot_be_started_is_tried_again(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "late"
    keeper = stage.keeper(Role(name="late", argv=(str(program),)))
    async with asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        await stage.until(lambda: len(stage.said) == 2)
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o700)
        await stage.until(lambda: "late" in keeper.pids)
        keeper.stop()
    assert stage.said[0] == "late can't be started (No such file or directory); trying again"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (-15, "was killed by SIGTERM"),
        (-63, "was killed by signal 63"),
    ],
)
def test_exit_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


async def test_cut_lifeline_is_noticed() -> None:
    noticed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        with Lifeline() as lifeline:
            group.create_task(watch_lifeline(os.dup(lifeline.read_fd), noticed.set))
        await noticed.wait()


async def test_watch_of_a_lifeline_can_be_cancelled() -> None:
    noticed = asyncio.Event()
    with Lifeline() as lifeline:
        fd = os.dup(lifeline.read_fd)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(watch_lifeline(fd, noticed.set))
            await asyncio.sleep(0)
            assert not os.get_inheritable(fd)
            watch.cancel()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert not noticed.is_set()


async def test_process_without_a_lifeline_goes_on(tmp_path: Path) -> None:
    noticed = asyncio.Event()
    with (tmp_path / "file").open("w") as file:
        closed = os.dup(file.fileno())
        os.close(closed)
        for fd in (None, closed, file.fileno()):
            await watch_lifeline(fd, noticed.set)
    assert not noticed.is_set()
