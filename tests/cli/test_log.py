"""`fleetlog log`."""

from __future__ import annotations

import json
import subprocess

import pytest
from support.command_line import CommandLine

from fleetlog.bus.client import Client
from fleetlog.bus.log import Append
from fleetlog.bus.settings import Settings


@pytest.fixture
def settled(cli: CommandLine) -> str:
    """A task that has its outcome."""
    task_id: str = cli("submit", "add", '{"a": 1}', "--wait", "--json").value["task_id"]
    return task_id


def test_tail_of_a_task(cli: CommandLine, settled: str) -> None:
    events = cli("log", "tail", "--task", settled, "--json").value
    assert [event["type"] for event in events] == ["task.queued", "task.claimed", "task.completed"]
    first = events[0]
    assert first["subject"] == f"fleetlog.main.task.{settled}.default.normal.queued"
    assert first["spec"] == {"handler": "add", "args": {"a": 1}}
    assert {"seq", "stored_at", "occurred_at", "id", "v"} <= set(first)
    [last] = cli("log", "tail", "--task", settled, "--type", "task.completed", "--json").value
    assert last == events[-1]


def test_tail_shows_the_last_ones_in_order(cli: CommandLine, settled: str) -> None:
    seqs = [event["seq"] for event in cli("log", "tail", "--count", "3", "--json").value]
    assert seqs == list(range(seqs[0], seqs[0] + 3))
    lines = cli("log", "tail", "--task", settled).out.splitlines()
    assert [line.split()[3] for line in lines] == ["task.queued", "task.claimed", "task.completed"]
    assert all(line.split()[4] == settled for line in lines)
    assert "handler=add queue=default/normal" in lines[0]


def test_tail_after_a_sequence(cli: CommandLine) -> None:
    events = cli("log", "tail", "--after", "0", "--count", "2", "--json").value
    assert [event["seq"] for event in events] == [1, 2]
    everything = cli("log", "tail", "--after", "0", "--json").value
    assert everything[1:2] == events[1:]


def test_tail_of_a_type(cli: CommandLine) -> None:
    started = cli("log", "tail", "--type", "agent.started", "--json").value
    assert any({"add", "greet"} <= set(event.get("handlers", ())) for event in started)
    workers = cli("log", "tail", "--type", "worker.spawned", "--count", "2", "--json").value
    assert len(workers) == 2
    # Behind the end, as other tests of this fleet fan out.
    end = str(cli("log", "tail", "--count", "1", "--json").value[0]["seq"])
    none = cli("log", "tail", "--type", "barrier.released", "--after", end, "--json")
    assert none.value == []


def test_follow_goes_on_with_what_comes(cli: CommandLine, fleet: str) -> None:
    end = cli("log", "tail", "--count", "1", "--json").value[0]["seq"]
    with cli.start("log", "tail", "-f", "--json", "--type", "task.queued") as following:
        first = cli("submit", "quiet", "--queue", fleet, "--json").value
        second = cli("submit", "quiet", "--queue", fleet, "--json").value
        seen = _lines_until(following, second["seq"])
        following.terminate()
    new = [event["seq"] for event in seen if event["seq"] > end]
    assert {first["seq"], second["seq"]} <= set(new)
    assert new == sorted(set(new))


def test_follow_with_a_start_and_a_count_ends(cli: CommandLine) -> None:
    ran = cli("log", "tail", "--follow", "--after", "1", "--count", "2", "--json")
    assert [json.loads(line)["seq"] for line in ran.out.splitlines()] == [2, 3]


async def test_unknown_events_are_shown_raw_and_flagged(cli: CommandLine, fleet: str) -> None:
    async with Client.connect(settings=Settings(data=cli.data)) as client:
        for kind, data in (
            ("set", b'{"type":"schedule.set","v":9,"every":"5m"}'),
            ("paused", b"\xff["),
        ):
            thing = f"fleetlog.main.schedule.{fleet}-{kind}"
            seq = await client.fleet.log.append(
                Append(f"{thing}.{kind}", f"{thing}.>", 0, "x", data)
            )
    args = ("log", "tail", "--after", str(seq - 2), "--count", "2")
    newer, broken = cli(*args, "--json").value
    assert newer["every"] == "5m"
    assert newer["unknown"]
    assert broken["raw"].endswith("[")
    first, second = cli(*args).out.splitlines()
    assert "schedule.set" in first
    assert "unknown event" in first
    assert '"every":"5m"' in first
    assert "unknown event" in second
    assert cli("log", "tail", "--type", "schedule.set", "--count", "1", "--json").value == [newer]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--type", "task.faild"], "did you mean task.failed"),
        (["--type", "task"], "no events of type 'task'"),
        (["--task", "a b"], "task id 'a b' is not valid"),
        (["--count", "0"], "--count"),
        (["--after", "-1"], "--after"),
        (["--after", "x"], "--after"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_exit_code_2(nowhere: CommandLine, args: list[str], says: str) -> None:
    ran = nowhere.run("log", "tail", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


def _lines_until(following: subprocess.Popen[bytes], seq: int) -> list[dict[str, int]]:
    assert following.stdout is not None
    seen: list[dict[str, int]] = []
    while not seen or seen[-1]["seq"] < seq:
        seen.append(json.loads(following.stdout.readline()))
    return seen
