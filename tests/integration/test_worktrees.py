"""Attempts in worktrees, with real agents, real git, and kills in the middle of the work."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fleets import agent, coordinator, options, wait_for
from support.mock_clis import agent_environment, claude, executable
from support.repositories import branches, files_at, git, repository, untouched, worktrees
from support.targets import target_of, text_of
from support.workers import until_gone

from fleetlog.agents.supervisor import Supervisor
from fleetlog.agents.worktrees.reaper import reaper_of
from fleetlog.agents.worktrees.records import TreeRecords
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.system import SystemClock
from fleetlog.schemas.events import AttemptEnd, WorktreeReport
from fleetlog.schemas.specs import Backoff, TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "my shop")


@pytest.fixture(autouse=True)
def _no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without settings of git's: an identity must come from us or there is none."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def command(script: str, **rules: Any) -> TaskSpec:
    args = msgspec.Raw(msgspec.json.encode({"argv": ["sh", "-ec", script]}))
    spec = TaskSpec(executor="command", handler="test", args=args)
    return msgspec.structs.replace(spec, **rules)


def given(tmp_path: Path, *repos: Path, **more: Any) -> dict[str, Any]:
    """What an agent with worktrees is told."""
    return {"app": None, "worktrees": repos, "data": tmp_path / "data", **more}


async def reports(client: Client, task_id: str) -> list[WorktreeReport | None]:
    """By attempt."""
    events = (await client.get(task_id)).events
    return [record.event.worktree for record in events if isinstance(record.event, AttemptEnd)]


async def test_thirty_tasks_at_once_each_commit_on_a_branch_of_their_own(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    before = untouched(repo)
    script = "echo work > $FLEETLOG_TASK_ID; git add -A; git commit -qm done; echo more >> a.txt"
    several = given(tmp_path, repo, workers=1, concurrency=30)
    async with agent(server.target, fleet, **several):
        tasks = [await client.submit(command(script), task_id=f"t{n}") for n in range(30)]
        outcomes = [await task.result("60s") for task in tasks]
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [("completed", 1)] * 30
    base = git(repo, "rev-parse", "main")
    for task in tasks:
        branch = f"fleetlog/{task.task_id}/1"
        head = git(repo, "rev-parse", branch)
        assert await reports(client, task.task_id) == [
            WorktreeReport(
                repository=str(repo),
                base=base,
                branch=branch,
                head=head,
                commits=2,
                files_changed=2,
                insertions=2,
            )
        ]
        who = git(repo, "log", "--format=%an <%ae>|%cn <%ce>", f"main..{branch}").splitlines()
        mine = f"fleetlog agent {task.task_id} <{task.task_id}@fleetlog.invalid>"
        assert who[1] == f"{mine}|{mine}"
        assert set(files_at(repo, branch)) == {
            *(".gitignore", "a.txt", "deep/b.txt"),
            task.task_id,
        }
    assert untouched(repo) == before
    assert worktrees(repo) == []
    assert TreeRecords(tmp_path / "data").read_all() == []


async def test_a_killed_worker_loses_nothing_of_the_work(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    script = (
        "echo one > committed; git add -A; git commit -qm one; echo two > uncommitted;"
        " echo 'three' >> a.txt; echo begun; sleep 60"
    )
    async with agent(server.target, fleet, **given(tmp_path, repo)):
        task = await client.submit(command(script, max_attempts=1))
        await _until_said(client, task.task_id, "begun")
        [spawned, *_] = await wait_for(client.fleet, "WorkerSpawned")
        os.kill(spawned.event.pid, signal.SIGKILL)
        outcome = await task.result("30s")
    assert outcome.error_class == "crash"
    [report] = await reports(client, task.task_id)
    assert report is not None
    branch = f"fleetlog/{task.task_id}/1"
    assert (report.branch, report.commits, report.files_changed) == (branch, 2, 3)
    saved = files_at(repo, branch)
    assert (saved["committed"], saved["uncommitted"]) == ("one", "two")
    assert saved["a.txt"].endswith("three")
    assert report.kept is not None
    assert (Path(report.kept) / "uncommitted").read_text() == "two\n"


async def test_a_killed_agent_loses_nothing_of_the_work(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    before = untouched(repo)
    script = (
        "echo one > committed; git add -A; git commit -qm one; echo two > uncommitted; echo begun;"
        f" test -e {tmp_path / 'again'} || sleep 60"
    )
    killed = _AgentProcess(server, fleet, repo, tmp_path)
    try:
        task = await client.submit(command(script))
        await _until_said(client, task.task_id, "begun")
        [tree] = TreeRecords(tmp_path / "data").read_all()
    finally:
        await killed.kill()
    (tmp_path / "again").touch()
    [left] = TreeRecords(tmp_path / "data").read_all()
    assert left == tree
    # Another agent on the same data folder rescues, and runs the task again from the beginning.
    async with (
        agent(server.target, fleet, ack_wait_s=1.5, **given(tmp_path, repo)),
        coordinator(server.target, fleet),
    ):
        outcome = await task.result("60s")
    assert (outcome.state, outcome.attempts) == ("completed", 2)
    for attempt in (1, 2):
        saved = files_at(repo, f"fleetlog/{task.task_id}/{attempt}")
        assert (saved["committed"], saved["uncommitted"]) == ("one", "two"), attempt
    [kept] = TreeRecords(tmp_path / "data").read_all()
    assert (kept.id, kept.phase) == (tree.id, "kept")
    assert kept.keep_until is not None
    assert untouched(repo) == before


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_thirty_loses_nothing_that_was_done(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    """Each task commits and writes without end, and says outside how far it came: no less may be found."""
    before = untouched(repo)
    done = tmp_path / "done"
    done.mkdir()
    # In one step each, so that a kill leaves the old file or the new one.
    script = f"""
        put() {{ echo $n > $1.o; mv $1.o $1; }}
        n=0
        while :; do
            n=$((n+1))
            put a.txt; git commit -qam $n; put {done}/$FLEETLOG_TASK_ID.committed
            put loose.txt; put {done}/$FLEETLOG_TASK_ID.loose
        done
    """
    killed = _AgentProcess(server, fleet, repo, tmp_path, concurrency=30)
    try:
        tasks = [await client.submit(command(script)) for _ in range(30)]
        marks = [done / f"{task.task_id}.loose" for task in tasks]
        async with asyncio.timeout(60):
            while not all(mark.exists() for mark in marks):  # noqa: ASYNC110 - files tell nobody
                await asyncio.sleep(0.02)
    finally:
        await killed.kill()
    reaped = await reaper_of(tmp_path / "data", SystemClock(), dict(os.environ)).reap()
    assert [(each.act, each.problem) for each in reaped] == [("rescued", None)] * 30
    for task in tasks:
        found = files_at(repo, f"fleetlog/{task.task_id}/1")
        assert int(found["a.txt"]) >= int((done / f"{task.task_id}.committed").read_text())
        assert int(found["loose.txt"]) >= int((done / f"{task.task_id}.loose").read_text())
        mine = f"fleetlog agent {task.task_id} <{task.task_id}@fleetlog.invalid>"
        who = git(repo, "log", "--format=%an <%ae>", f"main..fleetlog/{task.task_id}/1")
        assert set(who.splitlines()) <= {mine, "fleetlog <fleetlog@fleetlog.invalid>"}
        assert mine in who
    assert untouched(repo) == before


async def test_each_failed_attempt_keeps_its_own_worktree_and_branch(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    script = "echo $FLEETLOG_ATTEMPT > number; test $FLEETLOG_ATTEMPT = 2"
    spec = command(script, backoff=Backoff(first_ms=10, max_ms=10))
    async with (
        agent(server.target, fleet, **given(tmp_path, repo)),
        coordinator(server.target, fleet),
    ):
        task = await client.submit(spec)
        assert (await task.result("30s")).state == "completed"
    first, second = await reports(client, task.task_id)
    assert first is not None
    assert second is not None
    assert (first.kept is not None, second.kept) == (True, None)
    for attempt, report in ((1, first), (2, second)):
        assert report.branch == f"fleetlog/{task.task_id}/{attempt}"
        assert files_at(repo, report.branch)["number"] == str(attempt)
    assert worktrees(repo) == [first.kept]


async def test_a_worktree_that_can_not_be_set_up_fails_the_attempt_and_says_why(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    (repo / ".fleetlog").mkdir()
    (repo / ".fleetlog" / "worktree.toml").write_text('setup = "echo no luck; exit 3"')
    async with agent(server.target, fleet, **given(tmp_path, repo)):
        task = await client.submit(command("echo ran", max_attempts=1))
        outcome = await task.result("30s")
    assert outcome.error_class == "worktree"
    assert "setup ended with exit code 3" in (outcome.error or "")
    said = [chunk.text async for _, chunk in client.fleet.outputs.read(task.task_id)]
    assert said == ["no luck\n"]


async def test_a_cancel_while_the_worktree_is_set_up_ends_it(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    (repo / ".fleetlog").mkdir()
    (repo / ".fleetlog" / "worktree.toml").write_text(
        f"setup = \"echo $$ > '{begun}'; exec sleep 60\""
    )
    async with agent(server.target, fleet, **given(tmp_path, repo)):
        task = await client.submit(command("echo ran"))
        pid = int(await asyncio.to_thread(begun.read_text))
        await client.cancel(task.task_id)
        assert (await task.result("30s")).state == "cancelled"
        await until_gone(pid)
    assert (worktrees(repo), branches(repo)) == ([], [])


async def test_a_task_that_removes_its_worktree_loses_no_commit(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    script = 'echo x > x; git add x; git commit -qm x; rm -rf "$FLEETLOG_WORKDIR"'
    async with agent(server.target, fleet, **given(tmp_path, repo)):
        task = await client.submit(command(script))
        assert (await task.result("30s")).state == "completed"
    [report] = await reports(client, task.task_id)
    assert report is not None
    assert report.commits == 1
    assert worktrees(repo) == []


async def test_an_artifact_is_stored_before_its_worktree_goes(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    script = """echo made > out.o; echo '{"type": "artifact", "path": "out.o"}'"""
    async with agent(server.target, fleet, **given(tmp_path, repo)):
        task = await client.submit(command(script))
        assert (await task.result("30s")).state == "completed"
    [left] = (await client.get(task.task_id)).artifacts
    assert await client.fleet.objects.get(left.artifact.ref) == b"made\n"
    assert (worktrees(repo), branches(repo)) == ([], [])


async def test_an_agent_cli_works_in_a_worktree_too(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    before = untouched(repo)
    (tmp_path / "bin").mkdir()
    environ = agent_environment(tmp_path / "bin")
    works = "echo x > x; git add -A; git commit -qm x; echo y > y"
    cli = executable(
        tmp_path / "bin" / "worker",
        f"""#!/bin/sh\n[ "$1" = auth ] || {{ {works}; }}\nexec "{environ["CLAUDE_CLI_PATH"]}" "$@"\n""",
    )
    told = given(tmp_path, repo, environ={**environ, "CLAUDE_CLI_PATH": str(cli)})
    async with agent(server.target, fleet, **told):
        task = await client.submit(claude(), repo="my shop")
        outcome = await task.result("30s")
    assert outcome.state == "completed", outcome.error
    [report] = await reports(client, task.task_id)
    assert report is not None
    assert (report.branch, report.commits) == (f"fleetlog/{task.task_id}/1", 2)
    assert {"x", "y"} <= set(files_at(repo, report.branch or ""))
    who = git(repo, "log", "--format=%an", f"main..{report.branch}").splitlines()
    assert who == ["fleetlog", f"fleetlog agent {task.task_id}"]
    assert untouched(repo) == before


async def test_a_task_chooses_among_the_repositories_of_its_agent(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path, tmp_path: Path
) -> None:
    other = repository(tmp_path / "other")
    stranger = repository(tmp_path / "stranger")
    script = "echo x > x"
    async with agent(server.target, fleet, **given(tmp_path, repo, other)):
        found = await client.submit(command(script, repo="other"))
        assert (await found.result("30s")).state == "completed"
        for spec in (command(script), command(script, repo=str(stranger))):
            refused = await client.submit(spec)
            outcome = await refused.result("30s")
            assert (outcome.error_class, outcome.attempts) == ("worktree", 1)
    assert branches(other) == [f"fleetlog/{found.task_id}/1"]
    assert (branches(repo), branches(stranger)) == ([], [])


async def test_without_worktrees_a_task_with_a_repository_is_refused_and_others_run(
    server: EmbeddedServer, client: Client, fleet: str, repo: Path
) -> None:
    async with agent(server.target, fleet):
        refused = await client.submit(command("pwd", repo=str(repo)))
        plain = await client.submit(command("pwd"))
        handler = await client.submit(call("noop"))
        outcome = await refused.result("30s")
        assert (outcome.error_class, outcome.attempts) == ("worktree", 1)
        assert "--worktree" in (outcome.error or "")
        assert (await plain.result("30s")).state == "completed"
        assert await reports(client, plain.task_id) == [None]
        await handler.result("30s")
    assert await reports(client, handler.task_id) == [None]


async def test_an_agent_that_was_given_no_repository_does_not_start(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with open_fleet(server.target, fleet, role="agent") as opened:
        supervisor = Supervisor(opened, options(**given(tmp_path, tmp_path / "none")))
        with pytest.raises(ConfigError, match="no such folder"):
            await supervisor.run(asyncio.Event())


class _AgentProcess:
    """An agent in a process of its own, to be killed."""

    def __init__(
        self,
        server: EmbeddedServer,
        fleet: str,
        repo: Path,
        tmp_path: Path,
        *,
        concurrency: int = 1,
    ) -> None:
        target = text_of(server.target)
        self._process = subprocess.Popen(
            (sys.executable, __file__, target, fleet, str(repo), str(tmp_path), str(concurrency)),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        )

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait, 20)


async def _until_said(client: Client, task_id: str, text: str) -> None:
    async with asyncio.timeout(30):
        async for _, chunk in client.fleet.outputs.read(task_id, follow=True):
            if text in chunk.text:
                return


async def _main(target: str, fleet: str, repo: str, folder: str, concurrency: str) -> None:
    told = given(Path(folder), Path(repo), concurrency=int(concurrency))
    async with agent(target_of(target), fleet, ack_wait_s=1.5, **told):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
