"""Agent CLIs through a real agent on a real server: the mock of `claude` plays what the real one does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.command_line import address
from support.fleets import agent, coordinator, wait_for
from support.mock_clis import agent_environment, claude, executable, quick_profiles, scenario
from support.workers import is_alive, until_gone

from fleetlog.agents.executors.agent_cli import GO_ON
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.outcomes import Outcome
from fleetlog.schemas.events import AttemptEnd, TaskReturned
from fleetlog.schemas.specs import TaskSpec

needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find them")


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


@asynccontextmanager
async def running(
    server: EmbeddedServer,
    fleet: str,
    folder: Path,
    environ: dict[str, str] | None = None,
    times: dict[str, float] | None = None,
    **changes: Any,
) -> AsyncIterator[None]:
    """A coordinator, and an agent that has the mock."""
    options = {"environ": agent_environment(folder, **(environ or {})), "workers": 2, **changes}
    if times is not None:
        options["profiles"] = quick_profiles(folder, **times)
    async with agent(server.target, fleet, **options), coordinator(server.target, fleet):
        yield


async def ends(client: Client, task_id: str) -> list[AttemptEnd]:
    """How the attempts of a task ended, in order."""
    events = [record.event for record in (await client.get(task_id)).events]
    return [event for event in events if isinstance(event, AttemptEnd)]


def costs(found: Sequence[AttemptEnd]) -> list[int]:
    return [end.usage.cost_micro_usd if end.usage else 0 for end in found]


async def run_one(
    client: Client, spec: TaskSpec, **options: Any
) -> tuple[Outcome, list[AttemptEnd]]:
    task = await client.submit(spec, **options)
    outcome = await task.result("40s")
    return outcome, await ends(client, task.task_id)


@pytest.mark.parametrize(
    ("name", "state", "error_classes", "cost_micro_usd"),
    [
        ("ok", "completed", [None], [5_000]),
        ("tool", "completed", [None], [10_000]),
        ("huge_line", "completed", [None], [10_000]),
        ("garbage", "completed", [None], [5_000]),
        ("overloaded", "completed", ["transient", None], [0, 5_000]),
        # SIGKILL leaves no word of the cost: it is estimated from the tokens that were told before.
        ("crash", "completed", ["crash", None], [4_020, 5_000]),
        ("limit", "completed", ["usage_limit", None], [5_000, 5_000]),
        ("max_turns", "failed", ["max_turns"], [5_000]),
        ("budget", "failed", ["max_budget"], [5_000]),
        ("bad_flag", "failed", ["permanent"], [0]),
        ("lie", "failed", ["error", "error"], [5_000, 5_000]),
        ("babble", "failed", ["protocol", "protocol"], [0, 0]),
        ("giant", "failed", ["unreadable_result"], [0]),
        ("sigint", "failed", ["crash", "crash"], [5_000, 5_000]),
    ],
)
async def test_the_outcome_is_what_the_cli_said_and_costs_are_kept_for_each_attempt(
    server: EmbeddedServer,
    client: Client,
    *,
    fleet: str,
    tmp_path: Path,
    name: str,
    state: str,
    error_classes: list[str | None],
    cost_micro_usd: list[int],
) -> None:
    async with running(server, fleet, tmp_path):
        outcome, found = await run_one(client, scenario(name), max_attempts=2)
    assert outcome.state == state
    assert [getattr(end, "error_class", None) for end in found] == error_classes
    assert costs(found) == cost_micro_usd
    assert outcome.attempts == len(found)
    if name not in ("babble", "bad_flag"):
        assert all(end.session_id for end in found)
        assert len({end.session_id for end in found}) == len(found)


@pytest.mark.parametrize(
    ("name", "error_class", "words"),
    [
        ("auth", "auth", "Invalid API key"),
        ("throttled", "throttled", "429"),
        ("billing", "billing", "Credit balance"),
    ],
)
async def test_trouble_with_the_credential_returns_the_task_without_blame(
    server: EmbeddedServer,
    client: Client,
    *,
    fleet: str,
    tmp_path: Path,
    name: str,
    error_class: str,
    words: str,
) -> None:
    async with running(server, fleet, tmp_path):
        task = await client.submit(scenario(name), max_attempts=1)
        await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
    (returned,) = await ends(client, task.task_id)
    assert isinstance(returned, TaskReturned)
    assert returned.error_class == error_class
    assert words in returned.error
    assert returned.delay_ms >= 60_000
    assert (await client.get(task.task_id)).task.failures == 0


async def test_a_used_up_allowance_returns_the_task_until_it_begins_anew(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    spec = scenario("limit", env={"MOCK_DELAY": "3600"})
    async with running(server, fleet, tmp_path):
        task = await client.submit(spec)
        await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
    (returned,) = await ends(client, task.task_id)
    assert isinstance(returned, TaskReturned)
    assert 3_500_000 < returned.delay_ms <= 3_601_000


async def test_one_that_is_not_logged_in_is_not_started(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-ant-hidden"}
    spec = claude(env={"MOCK_SCENARIO": "logged_out"})
    async with running(server, fleet, tmp_path, environ):
        task = await client.submit(spec)
        await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
    (returned,) = await ends(client, task.task_id)
    assert isinstance(returned, TaskReturned)
    assert (returned.error_class, returned.usage, returned.session_id) == ("auth", None, None)
    assert "--credential claude=key" in returned.error


async def test_a_key_reaches_the_cli_in_mode_key_only_and_a_command_never(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-ant-1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    environ["SECRET_TOKEN"] = "hush"
    command = TaskSpec(executor="command", handler="env", args=msgspec.Raw(b'{"argv": ["env"]}'))
    handler = TaskSpec(handler="environment")
    async with running(server, fleet, tmp_path, environ, credentials=("mine=key",)):
        by_login, _ = await run_one(client, scenario("echo"))
        by_key, _ = await run_one(client, scenario("echo", credential="mine"))
        plain, _ = await run_one(client, command)
        python, _ = await run_one(client, handler)
    login, key = (msgspec.json.decode(str(each.result))["env"] for each in (by_login, by_key))
    assert "ANTHROPIC_API_KEY" not in login
    assert key["ANTHROPIC_API_KEY"] == "sk-ant-1"
    assert login["ANTHROPIC_BASE_URL"] == key["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9"
    assert "SECRET_TOKEN" not in key
    assert "ANTHROPIC" not in str(plain.result)
    assert isinstance(python.result, list)
    assert "PATH" in python.result
    assert not [name for name in python.result if name.startswith("ANTHROPIC")]


async def test_the_prompt_stands_in_no_argument_and_options_do(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    prompt = "secret plans\n" * 20_000
    spec = claude(
        f"[mock:echo] {prompt}",
        model="opus",
        max_budget_usd=2.5,
        resume="s-7",
        args=["--restricted"],
    )
    async with running(server, fleet, tmp_path):
        outcome, _ = await run_one(client, spec)
    said = msgspec.json.decode(str(outcome.result))
    assert said["prompt"].startswith("[mock:echo] secret plans")
    assert said["argv"] == [
        *("-p", "--output-format", "stream-json", "--verbose", "--resume", "s-7"),
        *("--model", "opus", "--max-budget-usd", "2.5", "--restricted"),
    ]
    assert not any("secret" in value for value in said["env"].values())


@pytest.mark.parametrize(
    ("name", "times", "error_class", "words"),
    [
        ("hang_at_start", {"startup_s": 0.5, "idle_s": 60}, "startup", "within 0.5 s"),
        ("hang", {"startup_s": 60, "idle_s": 0.5}, "silence", "while no tool ran"),
        ("tool", {"startup_s": 60, "idle_s": 60, "tool_s": 0.5}, "silence", "while a tool ran"),
    ],
)
async def test_one_that_hangs_is_ended_and_tried_again(
    server: EmbeddedServer,
    client: Client,
    *,
    fleet: str,
    tmp_path: Path,
    name: str,
    times: dict[str, float],
    error_class: str,
    words: str,
) -> None:
    spec = scenario(name, env={"MOCK_DELAY": "3600"})
    async with running(server, fleet, tmp_path, times=times):
        outcome, found = await run_one(client, spec, max_attempts=2)
    assert (outcome.state, outcome.error_class, outcome.attempts) == ("failed", error_class, 2)
    assert words in str(outcome.error)
    assert costs(found) == ([0, 0] if name == "hang_at_start" else [5_000, 5_000])


async def test_a_tool_may_be_silent_for_longer_than_the_cli(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    spec = scenario("tool", env={"MOCK_DELAY": "4"})
    times = {"startup_s": 60, "idle_s": 1.0, "tool_s": 60}
    async with running(server, fleet, tmp_path, times=times):
        outcome, _ = await run_one(client, spec, silence="2s", max_attempts=1)
    assert (outcome.state, outcome.result) == ("completed", "it works")


async def test_one_that_hangs_after_its_result_has_completed(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    async with running(server, fleet, tmp_path, times={"settled_s": 0.3}):
        outcome, found = await run_one(client, scenario("hang_after_result"))
    assert (outcome.state, outcome.attempts) == ("completed", 1)
    assert str(outcome.result).startswith("answer to")
    assert costs(found) == [5_000]


async def test_a_cancel_ends_one_that_obeys_within_a_second_and_keeps_its_cost(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    async with running(server, fleet, tmp_path, stop_s=15.0):
        task = await client.submit(scenario("hang"))
        await output_of(client, task.task_id, "working")
        cancelled_at = time.monotonic()
        await task.cancel()
        outcome = await task.result("20s")
        took_s = time.monotonic() - cancelled_at
    (end,) = await ends(client, task.task_id)
    assert outcome.state == "cancelled"
    assert (costs([end]), end.exit_code) == ([5_000], 0)
    assert took_s < 1.0


async def test_a_cancel_ends_one_that_ignores_everything(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    async with running(server, fleet, tmp_path, stop_s=1.5):
        task = await client.submit(scenario("deaf"))
        await output_of(client, task.task_id, "working")
        cancelled_at = time.monotonic()
        await task.cancel()
        outcome = await task.result("20s")
        took_s = time.monotonic() - cancelled_at
    (end,) = await ends(client, task.task_id)
    assert (outcome.state, end.exit_code) == ("cancelled", -signal.SIGKILL)
    assert costs([end]) == [4_020]
    assert 1.5 <= took_s < 2.5


@needs_proc
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_child_with_a_session_of_its_own_ends_before_the_attempt(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, is_cancelled: bool
) -> None:
    spec = scenario("orphan", "and stay" if is_cancelled else "")
    async with running(server, fleet, tmp_path):
        task = await client.submit(spec)
        text = await output_of(client, task.task_id, "child ")
        child = int(text.partition("child ")[2].split()[0])
        if is_cancelled:
            assert is_alive(child)
            await task.cancel()
        outcome = await task.result("20s")
        assert not is_alive(child)
    assert outcome.state == ("cancelled" if is_cancelled else "completed")


async def test_a_further_attempt_goes_on_with_the_session_if_it_shall(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    asked = "[mock:crash]"
    gone = {"MOCK_NO_SESSIONS": "1"}
    async with running(server, fleet, tmp_path):
        anew, _ = await run_one(client, scenario("crash"))
        kept, of_kept = await run_one(client, scenario("crash", keep_session=True))
        lost, of_lost = await run_one(client, scenario("crash", keep_session=True, env=gone))
    assert anew.result == lost.result == f"answer to {len(asked)} characters"
    assert kept.result == f"answer to {len(GO_ON) + 2 + len(asked)} characters"
    assert (kept.attempts, len({end.session_id for end in of_kept})) == (2, 1)
    assert (lost.attempts, len({end.session_id for end in of_lost})) == (2, 2)


@needs_proc
async def test_nothing_of_it_outlives_an_agent_that_is_killed(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = agent_environment(tmp_path)
    url = address(server.target)
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleetlog.cli", "--url", url, "--fleet", fleet),
        *("agent", "--workers", "1"),
        env=environ,
        cwd=tmp_path,
    )
    task = await client.submit(scenario("orphan", "and stay deaf"))
    text = await output_of(client, task.task_id, "child ")
    child = int(text.partition("child ")[2].split()[0])
    assert is_alive(child)
    killed.kill()
    await killed.wait()
    await until_gone(child)


async def test_beats_tell_what_a_running_attempt_has_used(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    async with running(server, fleet, tmp_path, workers=1):
        task = await client.submit(scenario("hang"))
        used = await beat_with_usage(client, task.task_id)
        await task.cancel()
        await task.result("20s")
    assert (used.usage.input_tokens, used.usage.cost_micro_usd) == (1000, 4_020)
    assert used.usage.model == "claude-opus-5-5"
    assert used.output_at is not None


async def test_an_unknown_program_and_wrong_arguments_fail_for_good(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = {"CLAUDE_CLI_PATH": "/no/such/claude"}
    wrong = [{"prompt": ""}, {"prompt": "x", "resume": "--help"}, {"prompt": "x", "turns": 3}]
    async with running(server, fleet, tmp_path, environ):
        missing, _ = await run_one(client, claude())
        refused = [
            await run_one(
                client,
                msgspec.structs.replace(claude(), args=msgspec.Raw(msgspec.json.encode(args))),
            )
            for args in wrong
        ]
    assert (missing.error_class, missing.attempts) == ("permanent", 1)
    assert "CLAUDE_CLI_PATH" in str(missing.error)
    assert {outcome.error_class for outcome, _ in refused} == {"invalid_input"}


async def test_a_profile_of_ones_own_runs_another_cli(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    program = executable(tmp_path / "my-cli", '#!/bin/sh\necho "$1"; cat "$2"; ls -l "$2" >&2\n')
    profiles = tmp_path / "mine.toml"
    profiles.write_text(f'[mine]\nprogram = "{program}"\nargv = ["--file", "{{prompt_file}}"]\n')
    spec = msgspec.structs.replace(claude("look\n"), executor="mine")
    async with running(server, fleet, tmp_path, profiles=str(profiles)):
        outcome, found = await run_one(client, spec)
        budget = msgspec.structs.replace(claude("look", max_budget_usd=1.0), executor="mine")
        refused, _ = await run_one(client, budget)
    assert (outcome.state, outcome.result) == ("completed", "--file\nlook")
    assert found[0].usage is None
    assert (refused.error_class, "knows no max_budget_usd" in str(refused.error)) == (
        "invalid_input",
        True,
    )


CODEX = """#!/bin/sh
[ "$1 $2" = "exec --json" ] || exit 2
[ "$(cat)" = hello ] || exit 3
echo '{"type":"thread.started","thread_id":"th1"}'
echo '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"from codex"}}'
echo '{"type":"turn.completed","usage":{"input_tokens":7,"output_tokens":2}}'
"""
GEMINI = """#!/bin/sh
[ "$(cat)" = hello ] || exit 3
echo '{"type":"init","session_id":"g1","model":"gemini-x"}'
echo '{"type":"message","role":"assistant","content":"from gemini","delta":true}'
echo '{"type":"result","status":"success","stats":{"input_tokens":7,"output_tokens":2}}'
"""
OPENCODE = """#!/bin/sh
[ "$(cat)" = hello ] || exit 3
echo '{"type":"text","sessionID":"o1","part":{"text":"from opencode"}}'
echo '{"type":"step_finish","sessionID":"o1","part":{"cost":0.5,"tokens":{"input":7,"output":2}}}'
"""


async def test_other_clis_run_by_their_profiles(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    for name, text in (("codex", CODEX), ("gemini", GEMINI), ("opencode", OPENCODE)):
        executable(tmp_path / name, text)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = {}
    async with running(server, fleet, tmp_path, environ):
        for name in ("codex", "gemini", "opencode"):
            spec = msgspec.structs.replace(claude("hello"), executor=name)
            outcome, (end,) = await run_one(client, spec)
            assert end.usage is not None
            tokens = (end.usage.input_tokens, end.usage.output_tokens, end.usage.cost_micro_usd)
            ended[name] = (outcome.result, end.session_id, tokens)
    assert ended == {
        "codex": ("from codex", "th1", (7, 2, 0)),
        "gemini": ("from gemini", "g1", (7, 2, 0)),
        "opencode": ("from opencode", "o1", (7, 2, 500_000)),
    }


async def output_of(client: Client, task_id: str, text: str) -> str:
    """Waits until the task has printed it; answers all that it printed."""
    seen = ""
    async with asyncio.timeout(20):
        async for _, chunk in client.fleet.outputs.read(task_id, follow=True):
            seen += chunk.text
            if text in seen:
                break
    return seen


async def beat_with_usage(client: Client, task_id: str) -> Any:
    """Waits for a beat that tells what the task's attempt has used."""
    async with asyncio.timeout(20):
        async for page in client.fleet.beats.follow():
            for stored in page:
                for worker in stored.beat.workers:
                    if worker.task_id == task_id and worker.usage is not None:
                        return worker
    raise AssertionError
