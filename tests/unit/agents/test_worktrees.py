"""Worktrees on real repositories: made, saved in whatever state they are, rescued and removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.repositories import (
    ENVIRON,
    branches,
    files_at,
    git,
    repository,
    untouched,
    worktrees,
)

from fleetlog.agents.worktrees.copying import FILES_MAX, copy_files
from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.agents.worktrees.git import Git
from fleetlog.agents.worktrees.permissions import open_up
from fleetlog.agents.worktrees.reaper import Reaper
from fleetlog.agents.worktrees.records import Tree, TreeRecords
from fleetlog.agents.worktrees.repositories import RepositoryLocks
from fleetlog.agents.worktrees.worktrees import Lease, Made, Worktrees
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.programs import SystemPrograms
from fleetlog.bus.system import SystemClock
from fleetlog.schemas.events import WorktreeReport


class Shop:
    """A repository, a data folder, and one agent's worktrees."""

    def __init__(self, tmp_path: Path) -> None:
        self.repo = repository(tmp_path / "my shop")
        self.data = tmp_path / "data"
        self.said: list[str] = []

    @asynccontextmanager
    async def agent(self, *repos: Path, owner: str = "a1") -> AsyncIterator[Worktrees]:
        made = Worktrees(
            repos or (self.repo,),
            data=self.data,
            owner=owner,
            clock=SystemClock(),
            environ=ENVIRON,
        )
        async with made.open():
            yield made

    def settings(self, text: str) -> None:
        """Commits the repository's settings for worktrees."""
        path = self.repo / ".fleetlog" / "worktree.toml"
        path.parent.mkdir()
        path.write_text(text)
        git(self.repo, "add", ".fleetlog")
        git(self.repo, "commit", "-qm", "settings", "--", ".fleetlog")

    async def make(self, agent: Worktrees, task: str = "t1", **lease: Any) -> Made:
        fields = {"task_id": task, "attempt": 1, "fence": 7, "repo": None} | lease
        return await agent.make(Lease(**fields), self.said.append)

    async def finish(
        self, agent: Worktrees, made: Made, *, is_kept: bool = False
    ) -> WorktreeReport:
        tree, report = await agent.save(made.tree, is_kept=is_kept)
        await agent.end(tree, is_recorded=True)
        return report

    def reaper(self, *, later_s: float = 0, clock: SystemClock | None = None) -> Reaper:
        clock = clock or Later(later_s)
        records = TreeRecords(self.data)
        return Reaper(Git(SystemPrograms(), clock, ENVIRON), records, RepositoryLocks(clock), clock)

    def records(self) -> list[Tree]:
        return TreeRecords(self.data).read_all()


class Later(SystemClock):
    """The machine's clock, set forward."""

    def __init__(self, later_s: float) -> None:
        self._later = timedelta(seconds=later_s)

    def now(self) -> Any:
        return super().now() + self._later


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def as_task(made: Made, *args: str, check: bool = True) -> str:
    """Runs git in the worktree as the task would."""
    ran = subprocess.run(
        ("git", *args),
        cwd=made.tree.path,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **made.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


async def test_work_becomes_a_branch_and_the_checkout_stays_as_it_is(shop: Shop) -> None:
    before = untouched(shop.repo)
    base = git(shop.repo, "rev-parse", "main")
    async with shop.agent() as agent:
        made = await shop.make(agent)
        path = made.tree.path
        assert files_at(shop.repo, "main") == {
            str(file.relative_to(path)): file.read_text().strip()
            for file in path.rglob("*")
            if file.is_file() and file.name != ".git"
        }
        [place] = git(shop.repo, "worktree", "list", "--porcelain").split("\n\n")[1:]
        assert "locked fleetlog: lease 7, task t1, attempt 1, agent a1" in place
        (path / "a.txt").write_text("one\nTWO\n")
        as_task(made, "commit", "-qam", "by the task")
        (path / "a.txt").write_text("one\nTWO\nthree\n")
        (path / "new.txt").write_text("new\n")
        (path / "deep" / "b.txt").unlink()
        (path / "junk.o").write_text("ignored\n")
        report = await shop.finish(agent, made)
        assert not path.exists()
    assert report == WorktreeReport(
        repository=str(shop.repo),
        base=base,
        branch="fleetlog/t1/1",
        head=git(shop.repo, "rev-parse", "fleetlog/t1/1"),
        commits=2,
        files_changed=3,
        insertions=3,
        deletions=2,
    )
    assert files_at(shop.repo, "fleetlog/t1/1") == {
        ".gitignore": "*.o\n.env",
        "a.txt": "one\nTWO\nthree",
        "new.txt": "new",
    }
    who = git(shop.repo, "log", "--format=%an <%ae> %cn <%ce>", "main..fleetlog/t1/1").splitlines()
    ours = "fleetlog <fleetlog@fleetlog.invalid>"
    task = "fleetlog agent t1 <t1@fleetlog.invalid>"
    assert who == [f"{ours} {ours}", f"{task} {task}"]
    assert untouched(shop.repo) == before
    assert worktrees(shop.repo) == []
    assert shop.records() == []
    assert not (shop.repo.parent / "hook-ran").exists()


async def test_no_hook_of_the_person_runs_for_what_fleetlog_does(shop: Shop) -> None:
    ran = shop.repo.parent / "hook-ran"
    hook = shop.repo / ".git" / "hooks" / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    hook.chmod(0o755)
    async with shop.agent() as agent:
        made = await shop.make(agent)
        (made.tree.path / "new.txt").write_text("new\n")
        assert (await shop.finish(agent, made)).commits == 1
        assert not ran.exists()
        other = await shop.make(agent, "t2")
        as_task(other, "commit", "-qm", "by the task", "--allow-empty")
        assert ran.exists()


async def test_a_task_without_its_git_file_does_not_get_another_repository(
    shop: Shop, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q")
    async with shop.agent() as agent:
        made = await shop.make(agent)
        assert as_task(made, "rev-parse", "--show-toplevel") == str(made.tree.path)
        (made.tree.path / ".git").unlink()
        assert as_task(made, "rev-parse", "--show-toplevel", check=False) == ""


async def test_a_branch_without_commits_goes_with_its_worktree(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        (made.tree.path / "junk.o").write_text("ignored\n")
        report = await shop.finish(agent, made)
    assert (report.branch, report.head, report.commits) == (None, report.base, 0)
    assert branches(shop.repo) == []


async def test_thirty_at_once_do_not_meet(shop: Shop) -> None:
    before = untouched(shop.repo)

    async def one(agent: Worktrees, number: int) -> WorktreeReport:
        made = await shop.make(agent, f"t{number}")
        (made.tree.path / f"{number}.txt").write_text("x\n")
        if number % 2:
            await asyncio.to_thread(as_task, made, "add", "-A")
            await asyncio.to_thread(as_task, made, "commit", "-qm", "done")
        return await shop.finish(agent, made)

    # Two agents, as of two fleets: what they share is the repository alone.
    async with shop.agent() as agent, Shop.agent(shop, owner="a2") as other:
        reports = await asyncio.gather(
            *(one(agent if number < 15 else other, number) for number in range(30))
        )
    assert [report.commits for report in reports] == [1] * 30
    assert {report.branch for report in reports} == {f"fleetlog/t{n}/1" for n in range(30)}
    for number in range(30):
        who = git(shop.repo, "log", "-1", "--format=%an", f"fleetlog/t{number}/1")
        assert who == (f"fleetlog agent t{number}" if number % 2 else "fleetlog")
    assert untouched(shop.repo) == before
    assert worktrees(shop.repo) == []


async def test_a_branch_that_exists_is_left_alone(shop: Shop) -> None:
    git(shop.repo, "branch", "fleetlog/t1/1", "main")
    async with shop.agent() as agent:
        made = await shop.make(agent)
        (made.tree.path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made)
    assert report.branch == "fleetlog/t1/1-2"
    assert git(shop.repo, "rev-parse", "fleetlog/t1/1") == git(shop.repo, "rev-parse", "main")


async def test_a_branch_in_the_way_is_told_and_leaves_nothing(shop: Shop) -> None:
    git(shop.repo, "branch", "fleetlog/t1", "main")
    async with shop.agent() as agent:
        with pytest.raises(WorktreeFailed, match="fleetlog/t1"):
            await shop.make(agent)
    assert shop.records() == []
    assert worktrees(shop.repo) == []


@pytest.mark.parametrize("what", ["merge", "rebase", "cherry-pick"])
async def test_what_is_unfinished_is_saved_beside_the_branch(shop: Shop, what: str) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        path = made.tree.path
        (path / "a.txt").write_text("task\n")
        as_task(made, "commit", "-qam", "by the task")
        mine = as_task(made, "rev-parse", "HEAD")
        as_task(made, "branch", "theirs", made.tree.base)
        as_task(made, "switch", "-q", "theirs")
        (path / "a.txt").write_text("theirs\n")
        as_task(made, "commit", "-qam", "theirs")
        as_task(made, "switch", "-q", "-")
        as_task(made, what, "theirs", check=False)
        assert "<<<<<<<" in (path / "a.txt").read_text()
        (path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made)
    assert report.branch == "fleetlog/t1/1-rescue"
    assert report.note is not None
    assert f"in the middle of a {what}" in report.note
    assert git(shop.repo, "rev-parse", "fleetlog/t1/1") == mine
    saved = files_at(shop.repo, "fleetlog/t1/1-rescue")
    assert "<<<<<<<" in saved["a.txt"]
    assert saved["new.txt"] == "new"
    assert not path.exists()


async def test_commits_away_from_the_branch_are_saved(shop: Shop) -> None:
    async with shop.agent() as agent:
        detached, moved = await shop.make(agent, "t1"), await shop.make(agent, "t2")
        as_task(detached, "switch", "-q", "--detach")
        as_task(moved, "switch", "-qc", "feature")
        for made in (detached, moved):
            (made.tree.path / "new.txt").write_text("new\n")
            as_task(made, "add", "-A")
            as_task(made, "commit", "-qm", "away")
        reports = [await shop.finish(agent, made) for made in (detached, moved)]
    assert [report.branch for report in reports] == ["fleetlog/t1/1-rescue", "feature"]
    assert [report.commits for report in reports] == [1, 1]
    assert branches(shop.repo) == ["fleetlog/t1/1-rescue"]


async def test_what_was_rescued_is_rescued_once_and_what_came_since_beside_it(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        as_task(made, "switch", "-q", "--detach")
        (made.tree.path / "new.txt").write_text("new\n")
        first = await shop.finish(agent, made, is_kept=True)
    assert first.branch == "fleetlog/t1/1-rescue"
    [tree] = shop.records()
    await asyncio.sleep(1.1)  # a commit made anew would have another time, and so another name
    again = await shop.reaper().save(tree, is_kept=True)
    assert again.saved is not None
    assert (again.saved.branch, again.saved.head) == (first.branch, first.head)
    (made.tree.path / "new.txt").write_text("newer\n")
    assert [each.act for each in await shop.reaper().reap(is_all=True)] == ["removed"]
    assert branches(shop.repo) == ["fleetlog/t1/1-rescue", "fleetlog/t1/1-rescue-2"]
    texts = [files_at(shop.repo, name)["new.txt"] for name in branches(shop.repo)]
    assert texts == ["new", "newer"]


async def test_a_branch_without_a_beginning_is_saved(shop: Shop) -> None:
    async with shop.agent() as agent:
        begun, empty = await shop.make(agent, "t1"), await shop.make(agent, "t2")
        for made in (begun, empty):
            as_task(made, "switch", "-q", "--orphan", "fresh" + made.tree.task_id)
        (begun.tree.path / "new.txt").write_text("new\n")
        reports = [await shop.finish(agent, made) for made in (begun, empty)]
    assert [report.branch for report in reports] == ["fleetlog/t1/1-rescue", None]
    assert files_at(shop.repo, "fleetlog/t1/1-rescue") == {"new.txt": "new"}
    assert branches(shop.repo) == ["fleetlog/t1/1-rescue"]


async def test_lock_files_and_a_damaged_index_are_not_in_the_way(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        own = shop.repo / ".git" / "worktrees" / "t1.1"
        (own / "index").write_bytes(b"DIRC nonsense")
        (own / "index.lock").touch()
        (made.tree.path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made, is_kept=True)
    assert (report.commits, report.files_changed) == (1, 1)
    # A person can work on in it.
    assert as_task(made, "status", "--porcelain") == ""
    as_task(made, "commit", "-qm", "mine", "--allow-empty")


@pytest.mark.parametrize("is_empty", [True, False])
async def test_a_lock_that_a_killed_git_left_on_its_branch_goes(
    shop: Shop, *, is_empty: bool
) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        lock = shop.repo / ".git" / "refs" / "heads" / "fleetlog" / "t1" / "1.lock"
        lock.touch()
        if not is_empty:
            (made.tree.path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made)
    assert report.commits == (0 if is_empty else 1)
    assert branches(shop.repo) == ([] if is_empty else ["fleetlog/t1/1"])
    assert not lock.exists()
    assert shop.records() == []


async def test_a_lock_that_is_in_use_is_waited_for(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
    lock = shop.repo / ".git" / "refs" / "heads" / "fleetlog" / "t1" / "1.lock"
    lock.touch()
    (made.tree.path / "new.txt").write_text("new\n")

    class Holder(SystemClock):
        """Each pause of the reaper is a step of the git that holds the lock."""

        steps = 0

        async def sleep(self, delay_s: float) -> None:
            self.steps += 1
            # First it writes, which shows that it lives; it ends while the reaper's own git waits.
            if self.steps <= 3:
                lock.write_text("0" * self.steps)
            else:
                lock.unlink(missing_ok=True)

    holder = Holder()
    tree = await shop.reaper(clock=holder).save(made.tree, is_kept=True)
    assert holder.steps >= 4
    assert tree.saved is not None
    assert (tree.saved.branch, tree.saved.commits) == ("fleetlog/t1/1", 1)


@pytest.mark.parametrize("what", ["folder", "git file", "own part"])
async def test_what_a_task_removes_loses_no_more_than_that(shop: Shop, what: str) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        path = made.tree.path
        (path / "new.txt").write_text("committed\n")
        as_task(made, "add", "-A")
        as_task(made, "commit", "-qm", "by the task")
        (path / "staged.txt").write_text("staged\n")
        as_task(made, "add", "-A")
        match what:
            case "folder":
                shutil.rmtree(path)
            case "git file":
                (path / ".git").unlink()
            case _:
                shutil.rmtree(shop.repo / ".git" / "worktrees")
        report = await shop.finish(agent, made)
    assert (report.branch, report.commits) == ("fleetlog/t1/1", 2)
    saved = files_at(shop.repo, "fleetlog/t1/1")
    assert (saved["new.txt"], saved["staged.txt"]) == ("committed", "staged")
    assert not path.exists()
    assert worktrees(shop.repo) == []


def test_what_a_task_locked_itself_out_of_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = tmp_path / "a" / "b" / "f"
    file.touch()
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    other.touch(0o010)
    (tmp_path / "a" / "link").symlink_to(other)
    file.chmod(0o010)
    file.parent.chmod(0o050)
    file.parent.parent.chmod(0)
    open_up(tmp_path)
    modes = [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o410, 0o750, 0o700]
    assert other.stat().st_mode & 0o777 == 0o010


async def test_a_link_in_the_place_of_the_folder_is_not_followed(
    shop: Shop, tmp_path: Path
) -> None:
    before = untouched(shop.repo)
    async with shop.agent() as agent:
        made = await shop.make(agent)
        shutil.rmtree(made.tree.path)
        made.tree.path.symlink_to(shop.repo)
        report = await shop.finish(agent, made)
    assert report.commits == 0
    assert untouched(shop.repo) == before


async def test_a_repository_inside_is_kept_until_a_person_says_so(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        inner = made.tree.path / "inner"
        inner.mkdir()
        git(inner, "init", "-q")
        git(inner, "commit", "-qm", "inner", "--allow-empty")
        report = await shop.finish(agent, made)
    assert report.kept == str(made.tree.path)
    assert "inner" in (report.note or "")
    for _ in range(2):
        assert await shop.reaper(later_s=1e6).reap() == []
        assert inner.is_dir()
    [reaped] = await shop.reaper().reap(is_all=True)
    assert reaped.act == "removed"
    assert not inner.exists()


async def test_what_git_will_not_take_stays_and_the_rest_is_saved(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        inner = made.tree.path / "inner"
        inner.mkdir()
        git(inner, "init", "-q")
        (inner / "x.txt").write_text("x\n")
        (made.tree.path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made)
    assert files_at(shop.repo, "fleetlog/t1/1")["new.txt"] == "new"
    assert report.kept == str(made.tree.path)
    assert "not all could be saved" in (report.note or "")


async def test_names_that_are_not_unicode_are_saved(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        strange = os.fsdecode(b"caf\xe9")
        (made.tree.path / strange).mkdir()
        (made.tree.path / strange / "x\n.txt").write_text("x\n")
        as_task(made, "switch", "-qc", strange)
        as_task(made, "add", "-A")
        as_task(made, "commit", "-qm", "strange")
        report = await shop.finish(agent, made)
    assert (report.branch, report.commits) == ("caf\ufffd", 1)


async def test_a_repository_that_is_gone_leaves_the_work_where_it_is(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        (made.tree.path / "new.txt").write_text("new\n")
        away = shop.repo.rename(shop.repo.parent / "away")
        report = await shop.finish(agent, made)
        assert report.kept == str(made.tree.path)
        [reaped] = await shop.reaper().reap(is_all=True)
        assert reaped.act == "failed"
        assert (made.tree.path / "new.txt").exists()
        away.rename(shop.repo)
    [reaped] = await shop.reaper().reap()
    assert reaped.act == "rescued"
    assert files_at(shop.repo, "fleetlog/t1/1")["new.txt"] == "new"


async def test_after_a_failure_it_is_kept_for_its_time_and_then_goes(shop: Shop) -> None:
    shop.settings('keep = "1h"')
    async with shop.agent() as agent:
        made = await shop.make(agent)
        path = made.tree.path
        (path / "new.txt").write_text("new\n")
        report = await shop.finish(agent, made, is_kept=True)
    assert report.kept == str(path)
    assert as_task(made, "status", "--porcelain") == ""
    (path / "later.txt").write_text("a person looked\n")
    assert await shop.reaper(later_s=3500).reap() == []
    [reaped] = await shop.reaper(later_s=3700).reap()
    assert reaped.act == "removed"
    assert not path.exists()
    assert set(files_at(shop.repo, "fleetlog/t1/1")) >= {"new.txt", "later.txt"}
    assert worktrees(shop.repo) == []


async def test_what_a_dead_agent_left_is_rescued_and_what_a_living_one_has_is_not(
    shop: Shop,
) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        (made.tree.path / "new.txt").write_text("new\n")
        assert await shop.reaper().reap(is_all=True) == []
        assert branches(shop.repo) == ["fleetlog/t1/1"]
    # The agent has gone without a word about its worktree.
    reaper = shop.reaper()
    assert [(reaper.state_of(tree), act) for tree, act in reaper.due(is_all=False)] == [
        ("left", "rescued")
    ]
    [reaped] = await reaper.reap()
    assert reaped.act == "rescued"
    assert files_at(shop.repo, "fleetlog/t1/1")["new.txt"] == "new"
    assert made.tree.path.is_dir()
    assert await reaper.reap() == []
    [reaped] = await reaper.reap(is_all=True)
    assert reaped.act == "removed"
    assert shop.records() == []


async def test_processes_that_are_left_end_before_the_work_is_saved(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent)
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", "echo begun; exec sleep 20"),
            env={"PATH": os.environ["PATH"], **made.env},
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        await shop.finish(agent, made, is_kept=True)
        assert await process.wait() == -9


async def test_a_crash_in_the_middle_of_making_leaves_nothing_after_reaping(shop: Shop) -> None:
    async with shop.agent() as agent:
        made = await shop.make(agent, "t1")
        unused = msgspec.structs.replace(made.tree, phase="making")
        TreeRecords(shop.data).write(unused)
        # As it is when git was killed: folder and branch are there, a file is not.
        (made.tree.path / "a.txt").unlink()
        other = made.tree.path.with_name("t2.1")
        reserved = msgspec.structs.replace(unused, id="t2.1", branch="fleetlog/t2/1", path=other)
        TreeRecords(shop.data).add(reserved)
    assert [each.act for each in await shop.reaper().reap()] == ["removed"] * 2
    assert (branches(shop.repo), shop.records()) == ([], [])


async def test_an_empty_branch_that_another_fleet_works_on_is_left_alone(
    shop: Shop, tmp_path: Path
) -> None:
    other = Shop.__new__(Shop)
    other.repo, other.data, other.said = shop.repo, tmp_path / "other", []
    async with shop.agent() as agent, other.agent(owner="a2"):
        made = await shop.make(agent)
        # What is left of one that came second in a race for the name.
        path = other.data / "worktrees" / "trees" / "t1.1"
        TreeRecords(other.data).add(msgspec.structs.replace(made.tree, path=path, phase="making"))
    [reaped] = await other.reaper().reap()
    assert reaped.act == "removed"
    assert as_task(made, "rev-parse", "HEAD") == made.tree.base
    assert branches(shop.repo) == ["fleetlog/t1/1"]


async def test_setup_and_copied_files_are_there_and_no_part_of_the_work(shop: Shop) -> None:
    shop.settings('setup = "cat .env > made.o; echo ready"\ncopy = [".env", "mine.txt", "none"]')
    before = untouched(shop.repo)
    async with shop.agent() as agent:
        made = await shop.make(agent)
        assert (made.tree.path / "made.o").read_text() == "SECRET=1\n"
        assert (made.tree.path / "mine.txt").read_text() == "untracked\n"
        report = await shop.finish(agent, made)
    assert shop.said == ["ready\n"]
    assert report.commits == 0
    assert untouched(shop.repo) == before


def test_folders_are_copied_without_what_is_gits_own(shop: Shop, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "b.txt").write_text("mine\n")
    (shop.repo / "deep" / "er" / ".git").mkdir(parents=True)
    (shop.repo / "deep" / "er" / ".git" / "config").touch()
    (shop.repo / "deep" / "er" / "c.txt").write_text("c\n")
    (shop.repo / "deep" / "link").symlink_to("/nowhere")
    copied = copy_files(("deep", "*", "**/c.*"), shop.repo, made)
    assert set(copied) == {
        *("deep/er/c.txt", "deep/link", ".env", ".gitignore", "a.txt", "mine.txt"),
    }
    assert (made / "deep" / "link").readlink() == Path("/nowhere")
    assert (made / "deep" / "b.txt").read_text() == "mine\n"
    assert not (made / ".git").exists()


def test_nothing_is_copied_out_of_the_worktree(shop: Shop, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "deep").symlink_to(tmp_path)
    with pytest.raises(WorktreeFailed, match="outside of the worktree"):
        copy_files(("deep",), shop.repo, made)
    assert not (tmp_path / "b.txt").exists()


def test_names_that_are_not_unicode_are_not_copied(shop: Shop, tmp_path: Path) -> None:
    (shop.repo / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(WorktreeFailed, match="not UTF-8"):
        copy_files(("caf*",), shop.repo, tmp_path / "made")


def test_many_files_are_for_setup_to_make(shop: Shop, tmp_path: Path) -> None:
    (shop.repo / "many").mkdir()
    for number in range(FILES_MAX + 1):
        (shop.repo / "many" / str(number)).touch()
    with pytest.raises(WorktreeFailed, match="let setup make them"):
        copy_files(("many",), shop.repo, tmp_path / "made")


@pytest.mark.parametrize(
    ("text", "says", "is_permanent"),
    [
        ('setup = "echo no luck; exit 3"', "exit code 3: no luck", False),
        ('setup = "sleep 60"\nsetup_timeout = "50ms"', "longer than 50ms", False),
        ('set_up = "x"', "set_up", True),
        ('keep = "soon"', "soon", True),
        ('copy = ["../secret"]', "inside of the repository", True),
    ],
)
async def test_a_worktree_that_can_not_be_set_up_is_kept_and_says_why(
    shop: Shop, text: str, says: str, is_permanent: bool
) -> None:
    shop.settings(text)
    async with shop.agent() as agent:
        with pytest.raises(WorktreeFailed, match=says) as failed:
            await shop.make(agent)
    assert failed.value.is_permanent is is_permanent
    [tree] = shop.records()
    assert tree.phase == "kept"
    assert str(tree.path) in str(failed.value)


async def test_the_repository_may_say_who_commits(shop: Shop) -> None:
    shop.settings('name = "Robot"\nemail = "robot@example.invalid"')
    async with shop.agent() as agent:
        made = await shop.make(agent)
        as_task(made, "commit", "-qm", "by the task", "--allow-empty")
        report = await shop.finish(agent, made)
    who = git(shop.repo, "log", "-1", "--format=%an %ae %cn %ce", report.branch or "")
    assert who == "Robot robot@example.invalid Robot robot@example.invalid"


async def test_stopping_while_it_is_made_leaves_nothing(shop: Shop) -> None:
    shop.settings('setup = "touch begun; sleep 60"')
    async with shop.agent() as agent:
        making = asyncio.ensure_future(shop.make(agent))
        begun = shop.data / "worktrees" / "trees" / "t1.1" / "begun"
        async with asyncio.timeout(20):
            while not begun.exists():  # noqa: ASYNC110 - nothing tells of a file
                await asyncio.sleep(0.01)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    assert (worktrees(shop.repo), branches(shop.repo), shop.records()) == ([], [], [])


async def test_a_task_may_name_only_what_its_agent_was_given(shop: Shop, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    async with shop.agent() as agent:
        for repo in (str(shop.repo), "my shop", str(shop.repo / "deep" / "..")):
            made = await shop.make(agent, "named", repo=repo)
            await shop.finish(agent, made)
        for repo in (str(other), "other"):
            with pytest.raises(WorktreeFailed, match="not one of those"):
                await shop.make(agent, repo=repo)
    async with shop.agent(shop.repo, other) as agent:
        with pytest.raises(WorktreeFailed, match="names no repository"):
            await shop.make(agent)
        made = await shop.make(agent, repo="other")
        assert made.tree.repository == other


async def test_it_begins_from_what_the_checkout_has_now(shop: Shop) -> None:
    async with shop.agent() as agent:
        git(shop.repo, "commit", "-qm", "second", "--allow-empty")
        second = git(shop.repo, "rev-parse", "HEAD")
        assert (await shop.make(agent, "t1")).tree.base == second
        git(shop.repo, "switch", "-q", "--detach", "HEAD~1")
        assert (await shop.make(agent, "t2")).tree.base == second


def _bare(path: Path) -> Path:
    git(path.parent, "init", "-q", "--bare", str(path))
    return path


def _empty(path: Path) -> Path:
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    return path


def _with_file(name: str, text: str) -> Any:
    def make(path: Path) -> Path:
        repository(path)
        (path / name).write_text(text)
        git(path, "add", name)
        git(path, "commit", "-qm", "more", "--", name)
        return path

    return make


def _detached(path: Path) -> Path:
    git(repository(path), "switch", "-q", "--detach")
    return path


def _occupied(path: Path) -> Path:
    git(repository(path), "branch", "fleetlog")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "no such folder"),
        (_folder, "no git repository"),
        (_bare, "bare"),
        (_empty, "no commit yet"),
        (_detached, "no branch checked out"),
        (_occupied, "has a branch 'fleetlog'"),
        (_with_file(".gitmodules", "[submodule]\n"), "submodules"),
        (_with_file(".gitattributes", "*.bin filter=lfs diff=lfs\n"), "LFS"),
        (_with_file("deep/.gitattributes", "*.bin filter=lfs\n"), "LFS"),
    ],
)
async def test_a_repository_that_can_not_be_used_is_refused_at_the_start(
    shop: Shop, tmp_path: Path, make: Any, says: str
) -> None:
    path = make(tmp_path / "bad")
    with pytest.raises(ConfigError, match=says):
        async with shop.agent(path):
            pass


async def test_a_data_folder_inside_of_the_repository_is_refused(shop: Shop) -> None:
    shop.data = shop.repo / "data"
    with pytest.raises(ConfigError, match="name another one with --data"):
        async with shop.agent():
            pass


@pytest.mark.parametrize(
    ("script", "says"), [(None, "cannot be started"), ("echo git version 2.30.2", "2.30.2")]
)
async def test_git_must_be_there_and_new_enough(
    shop: Shop, tmp_path: Path, script: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    if script is not None:
        (path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (path / "git").chmod(0o755)
    monkeypatch.setitem(ENVIRON, "PATH", str(path))
    # The program is looked for where this process looks.
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(ConfigError, match=says):
        async with shop.agent():
            pass
