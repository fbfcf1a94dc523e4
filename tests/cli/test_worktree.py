"""`fleetlog worktree`, and what the other commands say of worktrees."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.repositories import branches, files_at, repository, untouched, worktrees


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "my shop")


@pytest.fixture
def queue(fleet: str) -> str:
    """A queue that only this test's agent serves."""
    return f"shop-{fleet}"


@pytest.fixture
def shop(cli: CommandLine, repo: Path, queue: str) -> Iterator[CommandLine]:
    """The command line beside an agent with worktrees, which serves this test's queue."""
    agent = cli.start(
        *("agent", "--queue", queue, "--workers", "1", "--worktree", str(repo)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield cli
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0


def mine(cli: CommandLine, repo: Path) -> list[dict[str, object]]:
    """The worktrees of this test's repository."""
    return [
        row for row in cli("worktree", "list", "--json").value if row["repository"] == str(repo)
    ]


def test_a_command_works_in_a_worktree_and_show_says_where_its_work_is(
    shop: CommandLine, repo: Path, queue: str
) -> None:
    before = untouched(repo)
    script = "echo new > new.txt; git add -A; git commit -qm new; echo more >> a.txt; pwd"
    ran = shop(
        *("run", "--queue", queue, "--repo", str(repo), "--wait", "--json"),
        *("--", "sh", "-ec", script),
    ).value
    shown = shop("task", "show", ran["task_id"]).out
    branch = f"fleetlog/{ran['task_id']}/1"
    assert f"work {branch}, commits 2, files 2, lines +2 -0" in shown
    assert f"repo       {repo}" in shown
    assert files_at(repo, branch)["new.txt"] == "new"
    assert str(shop.data.resolve()) in ran["result"]
    [row] = shop(
        *("sql", "--fresh", "--format", "json"),
        f"SELECT branch, commits, insertions FROM attempts WHERE task_id = '{ran['task_id']}'",
    ).value
    assert row == {"branch": branch, "commits": 2, "insertions": 2}
    assert mine(shop, repo) == []
    assert untouched(repo) == before


def test_what_is_kept_is_listed_and_reaped_with_all(
    shop: CommandLine, repo: Path, queue: str
) -> None:
    ran = shop.run(
        *("run", "--queue", queue, "--max-attempts", "1", "--wait", "--json"),
        *("--", "sh", "-c", "echo new > new.txt; exit 3"),
    )
    assert ran.code == 1
    task_id = ran.value["task_id"]
    [row] = mine(shop, repo)
    assert (row["task_id"], row["state"], row["commits"]) == (task_id, "kept", 1)
    assert Path(str(row["path"])).is_dir()
    assert f"fleetlog/{task_id}/1" in shop("worktree", "list").out
    assert str(row["path"]) in shop("task", "show", task_id).out
    assert task_id not in shop("worktree", "reap").err
    dry = shop("worktree", "reap", "--all", "--dry-run", "--json").value
    assert [act["act"] for act in dry if act["task_id"] == task_id] == ["removed"]
    assert Path(str(row["path"])).is_dir()
    assert f"removed: task {task_id}, attempt 1" in shop("worktree", "reap", "--all").err
    assert mine(shop, repo) == []
    assert (worktrees(repo), branches(repo)) == ([], [f"fleetlog/{task_id}/1"])


def test_without_worktrees_it_says_so(nowhere: CommandLine) -> None:
    assert "no worktrees" in nowhere("worktree", "list").err
    assert nowhere("worktree", "list", "--json").value == []
    assert "nothing to reap" in nowhere("worktree", "reap").err
    assert json.loads(nowhere("worktree", "reap", "--all", "--json").out) == []


def test_what_can_not_be_saved_is_exit_code_1(
    shop: CommandLine, repo: Path, queue: str, tmp_path: Path
) -> None:
    shop.run(
        *("run", "--queue", queue, "--max-attempts", "1", "--wait"),
        *("--", "sh", "-c", "echo new > new.txt; exit 3"),
    )
    away = repo.rename(tmp_path / "away")
    ran = shop.run("worktree", "reap", "--all")
    assert ran.code == 1
    assert "can't be saved" in ran.err
    away.rename(repo)
    shop("worktree", "reap", "--all")
    assert mine(shop, repo) == []


def test_an_agent_refuses_a_repository_that_it_can_not_use(
    cli: CommandLine, tmp_path: Path
) -> None:
    ran = cli.run("agent", "--worktree", str(tmp_path))
    assert ran.code == 2
    assert "is no git repository" in ran.err


def test_a_relative_repository_is_seen_from_here(cli: CommandLine) -> None:
    for given, named in (("shop", "shop"), ("./shop", str(Path.cwd() / "shop")), ("/a/b", "/a/b")):
        ran = cli(*("run", "--delay", "1h", "--repo", given, "--json"), "--", "true").value
        spec = cli("task", "show", ran["task_id"], "--json").value["events"][0]["spec"]
        assert spec["repo"] == named
