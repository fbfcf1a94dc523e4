"""`fleetlog worktree`: the worktrees of this machine's agents."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleetlog.agents.worktrees.reaper import Act, Reaped, Reaper, place_of, reaper_of
from fleetlog.agents.worktrees.records import Tree
from fleetlog.bus.settings import child_environment
from fleetlog.bus.system import SystemClock
from fleetlog.cli.connection import run
from fleetlog.cli.failures import REFUSED, say
from fleetlog.cli.flags import settings_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import instant_text, write_json
from fleetlog.cli.tables import write_table

app = plain_typer(no_args_is_help=True)


@app.callback()
def _worktree() -> None:
    """List and reap the worktrees on this host, under the fleet's data folder.

    Example: fleetlog worktree list
    """


@app.command("list")
def list_worktrees(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List the worktrees on this host, the oldest first.

    One is `used` by an attempt that runs, `left` by an agent that died, or `kept` for a while after a failure.

    Example: fleetlog worktree list
    """
    found = _reaper(ctx).look()
    if is_json:
        write_json([{**_fields(tree), "state": state} for tree, state in found])
    elif found:
        names = ("task", "attempt", "state", "branch", "commits", "kept until", "path")
        write_table(names, [_row(tree, state) for tree, state in found])
    else:
        say("no worktrees: nothing runs in one, and none was kept or left")


@app.command()
def reap(
    ctx: typer.Context,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Remove also what is kept, whatever its time.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Rescue what dead agents left, and remove what was kept long enough.

    Agents with worktrees do so themselves every few minutes. Work that is not committed is committed on the
    worktree's branch first, and the branch stays; only files that git ignores go with the folder. What is in
    use is never touched, nor what can't be saved: then the exit code is 1.

    Examples:
      fleetlog worktree reap --dry-run
      fleetlog worktree reap --all
    """
    reaper = _reaper(ctx)
    if dry_run:
        due = reaper.due(is_all=all_)
        _tell([_about(tree, act) for tree, act in due], is_json=is_json, is_dry=True)
        return
    reaped = run(reaper.reap(is_all=all_))
    _tell([_about(each.tree, each.act, each) for each in reaped], is_json=is_json, is_dry=False)
    if any(each.act == "failed" for each in reaped):
        raise typer.Exit(REFUSED)


def _reaper(ctx: typer.Context) -> Reaper:
    return reaper_of(settings_of(ctx).data, SystemClock(), child_environment({}))


def _tell(acts: list[dict[str, Any]], *, is_json: bool, is_dry: bool) -> None:
    if is_json:
        write_json([{**act, "dry_run": is_dry} for act in acts])
        return
    for act in acts:
        what = f"would be {act['act']}" if is_dry else act["act"]
        why = f": {act['problem']}" if act["problem"] else ""
        say(f"{what}: task {act['task_id']}, attempt {act['attempt']}, work {act['work']}{why}")
    if not acts:
        say("nothing to reap")


def _about(tree: Tree, act: Act, reaped: Reaped | None = None) -> dict[str, Any]:
    return {
        **_fields(tree),
        "act": act,
        "work": place_of(tree.saved),
        "problem": reaped.problem if reaped is not None else None,
    }


def _row(tree: Tree, state: str) -> list[object]:
    saved = tree.saved
    commits = saved.commits if saved is not None else None
    until = instant_text(tree.keep_until) if tree.keep_until is not None else None
    branch = saved.branch if saved is not None and saved.branch is not None else tree.branch
    return [tree.task_id, tree.attempt, state, branch, commits, until, str(tree.path)]


def _fields(tree: Tree) -> dict[str, Any]:
    saved = tree.saved
    return {
        "task_id": tree.task_id,
        "attempt": tree.attempt,
        "agent_id": tree.owner,
        "pid": tree.pid,
        "repository": tree.repository,
        "path": tree.path,
        "branch": saved.branch if saved is not None and saved.branch is not None else tree.branch,
        "base": tree.base,
        "head": saved.head if saved is not None else None,
        "commits": saved.commits if saved is not None else None,
        "made_at": tree.made_at,
        "keep_until": tree.keep_until,
        "note": saved.note if saved is not None else None,
    }
