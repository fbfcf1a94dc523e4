"""`fleetlog task cancel`: many tasks at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from support.command_line import CommandLine, address

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.settings import Overrides, load_settings
from fleetlog.cli.choosing import Choice, choose, choose_from_log
from fleetlog.schemas.specs import TaskSpec


def submitted(cli: CommandLine, *specs: TaskSpec, **ids: str) -> list[str]:
    """Submits from this process, which can say who caused a task."""

    async def submit() -> list[str]:
        settings = load_settings(Overrides(data=cli.data))
        async with Client.connect(settings=settings) as client:
            return [(await client.submit(spec, **ids)).task_id for spec in specs]

    return asyncio.run(submit())


def task(queue: str, **fields: object) -> TaskSpec:
    return TaskSpec(handler="quiet", queue=queue, **fields)  # type: ignore[arg-type]


def states(cli: CommandLine, task_ids: list[str]) -> list[str]:
    return [cli("task", "show", task_id, "--json").value["state"] for task_id in task_ids]


@pytest.fixture
def three(cli: CommandLine, fleet: str) -> list[str]:
    """Tasks on a queue that nobody serves: red, blue, and a red one that is held."""
    return submitted(
        cli,
        task(fleet, labels={"colour": "red"}),
        task(fleet, labels={"colour": "blue"}),
        task(fleet, labels={"colour": "red"}, delay_ms=3_600_000),
    )


def test_many_need_a_yes_and_nothing_happens_without(
    cli: CommandLine, fleet: str, three: list[str]
) -> None:
    ran = cli.run("task", "cancel", "--queue", fleet)
    assert (ran.code, ran.out) == (2, "")
    assert "would cancel 3 tasks (2 queued, 1 held)" in ran.err
    assert "--yes" in ran.err
    assert states(cli, three) == ["queued", "queued", "held"]


def test_a_dry_run_lists_and_changes_nothing(
    cli: CommandLine, fleet: str, three: list[str]
) -> None:
    ran = cli("task", "cancel", "--queue", fleet, "--dry-run", "--json")
    assert [(row["task_id"], row["state"]) for row in ran.value] == list(
        zip(three, ["queued", "queued", "held"], strict=True)
    )
    assert three[1] in cli("task", "cancel", "--queue", fleet, "--dry-run").out
    [named] = cli("task", "cancel", three[2], "--dry-run", "--json").value
    assert (named["state"], named["handler"]) == ("held", "quiet")
    assert states(cli, three) == ["queued", "queued", "held"]


def test_filters_add_up_and_reason_and_actor_are_recorded(
    cli: CommandLine, fleet: str, three: list[str]
) -> None:
    args = ("--queue", fleet, "--label", "colour=red", "--state", "queued", "--handler", "quiet")
    [row] = cli("task", "cancel", *args, "--reason", "a mistake", "--json").value
    assert (row["task_id"], row["state"], row["error"]) == (three[0], "cancelled", "a mistake")
    event = cli("task", "show", three[0], "--json").value["events"][-1]
    assert (event["type"], event["reason"]) == ("task.cancelled", "a mistake")
    assert event["actor"]
    assert states(cli, three[1:]) == ["queued", "held"]
    assert len(cli("task", "cancel", "--queue", fleet, "--yes", "--json").value) == 2
    assert cli("task", "cancel", "--queue", fleet, "--yes", "--json").value == []
    assert "nothing was cancelled" in cli("task", "cancel", "--queue", fleet, "--yes").err


def test_older_than_counts_from_the_submit(cli: CommandLine, fleet: str, three: list[str]) -> None:
    args = ("task", "cancel", "--queue", fleet, "--json", "--yes")
    assert cli(*args, "--older-than", "1h").value == []
    assert len(cli(*args, "--older-than", "1ms").value) == len(three)


def test_hundreds_go_at_once(cli: CommandLine, fleet: str) -> None:
    items = "\n".join("{}" for _ in range(700)).encode()
    cli("map", "quiet", "--items", "-", "--queue", fleet, "--unchecked", stdin=items)
    rows = cli("task", "cancel", "--queue", fleet, "--yes", "--json").value
    assert len(rows) == 700
    assert {row["state"] for row in rows} == {"cancelled"}


def test_a_tree_ends_with_everything_it_caused(cli: CommandLine, fleet: str) -> None:
    [root] = submitted(cli, task(fleet))
    [child, other] = submitted(cli, task(fleet, parent_id=root), task(fleet))
    [grandchild] = submitted(cli, task(fleet, parent_id=child))
    ran = cli("task", "cancel", "--tree", root, "--yes", "--json")
    assert [row["task_id"] for row in ran.value] == [root, child, grandchild]
    # The root has ended now: what it caused later is still of the tree.
    [late] = submitted(cli, task(fleet, parent_id=grandchild))
    assert cli("task", "cancel", "--tree", root).out == f"task {late} is cancelled\n"
    assert states(cli, [other]) == ["queued"]
    ran = cli.run("task", "cancel", "--tree", "none-such")
    assert ran.code == 1
    assert "there is no task none-such" in ran.err


def test_wait_ends_when_nothing_runs_any_more(cli: CommandLine, fleet: str, tmp_path: Path) -> None:
    label = ("--label", f"test={fleet}")
    path = json.dumps({"path": str(tmp_path / "never")})
    running = cli("submit", "until", path, *label).out.strip()
    with cli.start("task", "output", "--follow", running) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"waiting\n"
        [queued] = submitted(cli, task(fleet, labels={"test": fleet}))
        rows = cli("task", "cancel", *label, "--wait", "--yes", "--json").value
    assert {row["task_id"]: row["state"] for row in rows} == {
        running: "cancelled",
        queued: "cancelled",
    }
    assert states(cli, [running]) == ["cancelled"]


def test_on_a_terminal_it_asks(cli: CommandLine, fleet: str, three: list[str]) -> None:
    ran = cli.on_terminal("task", "cancel", "--queue", fleet, "--label", "colour=blue")
    assert ran.code == 0
    assert f"task {three[1]} is cancelled" in ran.out


async def test_without_a_projector_the_log_itself_is_asked(
    nowhere: CommandLine, server: EmbeddedServer, fleet: str
) -> None:
    settings = load_settings(Overrides(url=address(server.target), fleet=fleet))
    async with Client.connect(settings=settings) as client:
        root = await client.submit(call("one"), labels={"a": "b"})
        child = await client.submit(call("two"), parent_id=root.task_id)
        other = await client.submit(call("two"))
        where = ("--url", address(server.target), "--fleet", fleet)
        ran = await asyncio.to_thread(
            nowhere, "task", "cancel", "--tree", root.task_id, "--yes", *where
        )
        assert "the log itself is read" in ran.err
        assert ran.out.splitlines() == [f"task {one.task_id} is cancelled" for one in (root, child)]
        assert await client.outcome(other.task_id) is None


CHOICES = (
    {},
    {"states": ("held",)},
    {"handler": "quiet"},
    {"handler": "none"},
    {"labels": {"colour": "red"}},
    {"labels": {"colour": "red"}, "states": ("queued",)},
    {"states": ("failed",)},
    {"states": ("failed",), "error_class": "permanent", "error": "line"},
    {"states": ("failed",), "error": "nothing like it"},
)


def test_log_and_projection_choose_the_same(cli: CommandLine, fleet: str, three: list[str]) -> None:
    cli.run("submit", "boom", '{"text": "a\\nline"}', "--wait", "--label", f"test={fleet}")

    async def both(choice: Choice) -> tuple[set[object], set[object]]:
        async with Client.connect(settings=load_settings(Overrides(data=cli.data))) as client:
            by_log = await choose_from_log(client.fleet.log, choice, None)
            return set(await choose(client, choice)), set(by_log)

    found = 0
    for fields in CHOICES:
        queue = None if fields.get("states") == ("failed",) else fleet
        by_sql, by_log = asyncio.run(both(Choice(queue=queue, **fields)))  # type: ignore[arg-type]
        assert by_sql == by_log
        found += len(by_sql)
    assert found > len(three)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["x", "--queue", "q"], "not both"),
        (["--tree"], "--tree needs the task at its root"),
        (["--state", "failed"], "only these can be cancelled"),
        (["--older-than", "soon", "--queue", "q"], "soon"),
        (["x", "--wait-timeout", "1s"], "--wait-timeout goes with --wait"),
    ],
    ids=" ".join,
)
def test_wrong_words_are_usage(nowhere: CommandLine, args: list[str], says: str) -> None:
    ran = nowhere.run("task", "cancel", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
