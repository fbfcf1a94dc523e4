"""`fleetlog up` as a process of its own, with small real processes for roles."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.files import is_held
from fleetlog.bus.embedded.orphan import command_line
from fleetlog.bus.embedded.runtime import Running, Stale, find_running
from fleetlog.bus.settings import Settings
from fleetlog.cli.keeper import Role
from fleetlog.cli.up import UpOptions, fleet_roles, run_up, up

ROLE = """
import asyncio, signal, sys
from fleetlog.bus.embedded.runtime import resolve_target
from fleetlog.bus.settings import load_settings
from fleetlog.cli.lifeline import watch_lifeline

name, journal, patience = sys.argv[1:]
if patience == "refuses":
    sys.exit(2)

def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what}\\n")

async def main():
    settings = load_settings()
    stop = asyncio.Event()

    def on_cut():
        note("was cut off")
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if patience == "deaf" else stop.set)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(watch_lifeline(settings.lifeline_fd, on_cut))
        note(f"finds {settings.fleet} at {resolve_target(settings).url}")
        await stop.wait()
        watch.cancel()
    note("ends")

asyncio.run(main())
"""

UP = """
import asyncio, sys
from pathlib import Path
import uvloop
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.settings import Overrides, load_settings
from fleetlog.cli.keeper import Role
from fleetlog.cli.keeper import Role
from fleetlog.cli.up import UpOptions, run_up

role, journal, data, *behaviours = sys.argv[1:]
def argv(name, behaviour):
    if behaviour == "cleaner":
        return (sys.executable, "-m", "fleetlog.cli.cleaner")
    return (sys.executable, "-c", role, name, journal, behaviour)

roles = tuple(
    Role(name=f"role{n}", argv=argv(f"role{n}", behaviour))
    for n, behaviour in enumerate(behaviours)
)
try:
    settings = load_settings(Overrides(data=Path(data), url=""))
    options = UpOptions(workers="1", exports=("export X=1",))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_up(settings, options, roles=roles))
except FleetlogError as error:
    sys.exit(str(error))
"""


class Up:
    """One `up` with two roles, and what can be seen of it."""

    def __init__(
        self, folder: Path, *behaviours: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.data = folder / "fleet"
        self._journal, self._stderr = folder / "journal", folder / "stderr"
        self._journal.touch()
        argv = (sys.executable, "-c", UP, ROLE, str(self._journal), str(self.data))
        with self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [*argv, *(behaviours or ("good", "good"))],
                stderr=stderr,
                stdout=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, **(environ or {})},
            )

    @property
    def said(self) -> str:
        return self._stderr.read_text()

    @property
    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines()

    @property
    def running(self) -> Running:
        running = find_running(Settings(data=self.data))
        assert isinstance(running, Running)
        return running

    def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for something that other processes do."""
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline, f"{self.journal}\n{self.said}"
            time.sleep(0.005)

    def until_roles_run(self, count: int = 2) -> None:
        self.until(lambda: sum(" finds " in line for line in self.journal) >= count)

    def end(self) -> None:
        """Whatever the test left behind."""
        self.process.kill()
        self.process.wait()
        match find_running(Settings(data=self.data)):
            case Stale(last) if str(self.data) in asyncio.run(command_line(last.server_pid)):
                os.kill(last.server_pid, signal.SIGKILL)


@contextmanager
def running_up(
    folder: Path, *behaviours: str, environ: Mapping[str, str] | None = None
) -> Iterator[Up]:
    running = Up(folder, *behaviours, environ=environ)
    try:
        yield running
    finally:
        running.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_the_roles_in_reverse_order_then_the_server(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_up(tmp_path) as fleet:
        fleet.until_roles_run()
        server_pid = fleet.running.server_pid
        fleet.process.send_signal(number)
        assert fleet.process.wait(20) == 0
        assert fleet.journal[2:] == ["role1 ends", "role0 ends"]
        assert find_running(Settings(data=fleet.data)) is None
        assert asyncio.run(command_line(server_pid)) == ""
        assert "stopping; running tasks have 30 s, Ctrl-C again hurries" in fleet.said


def test_it_says_what_runs_where_and_what_to_do_next(tmp_path: Path) -> None:
    with running_up(tmp_path) as fleet:
        fleet.until(lambda: "stop with Ctrl-C" in fleet.said)
        running = fleet.running
        assert "fleet 'main' runs, durability always:" in fleet.said
        assert f"pid {running.server_pid}, {running.url}, all in {fleet.data}" in fleet.said
        assert re.search(r"role0 +pid \d+", fleet.said)
        assert "  export X=1\n" in fleet.said
        assert "fleetlog run --wait -- echo hello" in fleet.said


def test_roles_find_their_server_whatever_the_settings_file_says(tmp_path: Path) -> None:
    (tmp_path / "fleetlog.toml").write_text('url = "nats://far:4222"\nfleet = "blue"\n')
    with running_up(tmp_path) as fleet:
        fleet.until_roles_run()
        assert set(fleet.journal) == {
            f"role{n} finds blue at {fleet.running.url}" for n in range(2)
        }


def test_killed_server_runs_again_within_two_seconds(tmp_path: Path) -> None:
    with running_up(tmp_path) as fleet:
        fleet.until_roles_run()
        before = fleet.running
        os.kill(before.server_pid, signal.SIGKILL)
        killed_at = time.monotonic()
        fleet.until(lambda: fleet.running.server_pid != before.server_pid)
        assert time.monotonic() - killed_at < 2
        assert fleet.running.url == before.url
        fleet.until(lambda: "nats-server runs again at" in fleet.said)
        assert "nats-server was killed by SIGKILL; starting it again" in fleet.said


def test_server_that_cannot_come_back_is_tried_until_it_can(tmp_path: Path) -> None:
    with running_up(tmp_path) as fleet:
        fleet.until_roles_run()
        before = fleet.running
        server = fleet.data / "server"
        server.rename(tmp_path / "away")
        server.write_text("in the way")
        os.kill(before.server_pid, signal.SIGKILL)
        fleet.until(lambda: fleet.said.count("can't be") >= 2)
        server.unlink()
        (tmp_path / "away").rename(server)
        fleet.until(lambda: "nats-server runs again at" in fleet.said)
        assert fleet.running.url == before.url


def test_killed_up_takes_its_roles_with_it_and_the_next_one_clears_the_server(
    tmp_path: Path,
) -> None:
    with running_up(tmp_path) as killed:
        killed.until_roles_run()
        orphan = killed.running
        killed.process.kill()
        killed.process.wait()
        killed.until(lambda: sum(line.endswith("ends") for line in killed.journal) == 2)
        assert sum(line.endswith("was cut off") for line in killed.journal) == 2
        assert find_running(Settings(data=killed.data)) == Stale(orphan)
        with running_up(tmp_path) as following:
            following.until_roles_run(4)
            assert asyncio.run(command_line(orphan.server_pid)) == ""
            assert following.running.url == orphan.url
            assert f"nats-server (pid {orphan.server_pid}) was left behind" in following.said


def test_second_up_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second/fleet").symlink_to(tmp_path / "fleet")
    with running_up(tmp_path) as first:
        first.until_roles_run()
        with running_up(tmp_path / "second") as second:
            assert second.process.wait(20) == 1
            assert f"kept by pid {first.process.pid}" in second.said
            assert first.running.url in second.said
        assert first.process.poll() is None


def test_second_signal_hurries(tmp_path: Path) -> None:
    with running_up(tmp_path, "good", "deaf") as fleet:
        fleet.until_roles_run()
        fleet.process.send_signal(signal.SIGINT)
        fleet.until(lambda: "stopping" in fleet.said)
        signalled_at = time.monotonic()
        fleet.process.send_signal(signal.SIGINT)
        assert fleet.process.wait(20) == 0
        assert time.monotonic() - signalled_at < 5


def test_role_that_refuses_its_options_ends_the_fleet(tmp_path: Path) -> None:
    with running_up(tmp_path, "good", "refuses") as fleet:
        assert fleet.process.wait(20) == 1
        assert fleet.said.endswith("the role1 does not start with these options, see above\n")
        assert "Traceback" not in fleet.said
        assert find_running(Settings(data=fleet.data)) is None


def test_signal_during_the_start_stops_it(tmp_path: Path) -> None:
    slow = tmp_path / "slow-server"
    slow.write_text(
        "#!/bin/sh\ncase $1 in --version) echo nats-server: v9.9.9;; *) exec sleep 600;; esac\n"
    )
    slow.chmod(0o700)
    with running_up(tmp_path, environ={"FLEETLOG_NATS_SERVER": str(slow)}) as fleet:
        fleet.until(lambda: is_held(fleet.data / "server.lock"))
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.process.wait(20) == 0
        assert not is_held(fleet.data / "server.lock")


def test_store_that_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    with running_up(tmp_path) as fleet:
        fleet.until_roles_run()
        (fleet.data / "server").rename(tmp_path / "away")
        os.kill(fleet.running.server_pid, signal.SIGKILL)
        fleet.until(lambda: "has been removed or replaced: put it back" in fleet.said)
        assert not (fleet.data / "server").exists()
        (tmp_path / "away").rename(fleet.data / "server")
        fleet.until(lambda: "nats-server runs again at" in fleet.said)


def test_killed_ephemeral_fleet_leaves_nothing(tmp_path: Path) -> None:
    with running_up(tmp_path, "cleaner") as fleet:
        fleet.until(lambda: "stop with Ctrl-C" in fleet.said)
        server_pid = fleet.running.server_pid
        fleet.process.kill()
        fleet.until(lambda: not fleet.data.exists())
        assert asyncio.run(command_line(server_pid)) == ""


def test_cleaner_leaves_a_stop_in_order_alone(tmp_path: Path) -> None:
    with running_up(tmp_path, "cleaner") as fleet:
        fleet.until(lambda: "stop with Ctrl-C" in fleet.said)
        fleet.process.terminate()
        assert fleet.process.wait(20) == 0
        assert Folder(fleet.data).store.exists()


async def test_stop_by_a_signal_returns(tmp_path: Path) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "stop with Ctrl-C" in text:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = Settings(data=tmp_path)
    sleeper = Role(name="sleeper", argv=("sleep", "600"))
    options = UpOptions(workers="1", app="fleet:agent", notes=("first of all",))
    await run_up(settings, options, roles=(sleeper,), say=say)
    assert said[0] == "first of all"
    assert "fleetlog submit --wait HANDLER" in said[1]
    assert said[2].startswith("stopping")
    assert said[3:] == ["fleetlog has stopped"]
    assert find_running(settings) is None


def test_ephemeral_does_not_go_with_a_named_folder(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="leave out --data"):
        up(ephemeral=True, data=tmp_path)


def test_ephemeral_does_not_go_with_worktrees(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="folder that stays"):
        up(worktree=[tmp_path], ephemeral=True)


def test_agent_is_given_the_repositories(tmp_path: Path) -> None:
    roles = fleet_roles(UpOptions(workers="1", worktrees=(tmp_path / "a b", tmp_path)))
    argv = roles[-1].argv
    assert argv[-4:] == ("--worktree", str(tmp_path / "a b"), "--worktree", str(tmp_path))


def test_agent_gets_the_options_and_more_time_than_its_drain() -> None:
    *_, agent = fleet_roles(UpOptions(workers="3", app="fleet:agent"))
    assert agent.argv[3:] == ("agent", "--workers", "3", "--app", "fleet:agent")
    assert agent.drain_s > 30


def test_agent_is_told_what_to_reserve() -> None:
    *_, agent = fleet_roles(UpOptions(workers="3", reserve_high=1))
    assert agent.argv[3:] == ("agent", "--workers", "3", "--reserve-high", "1")


def test_ephemeral_fleet_has_a_cleaner_that_ends_last() -> None:
    names = [role.name for role in fleet_roles(UpOptions(workers="1", is_ephemeral=True))]
    assert names == ["cleaner", "coordinator", "projector", "agent"]
