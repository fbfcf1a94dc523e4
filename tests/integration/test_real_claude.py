"""The real Claude CLI against a Messages API on loopback: what the mock plays is what it does.

Runs where `claude` is installed (in PATH, or named by CLAUDE_CLI_PATH); it needs no account and no network.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.fake_messages import FakeMessages, fake_messages
from support.fleets import TESTS, agent, coordinator, wait_for
from support.mock_clis import claude
from support.workers import is_alive

from fleetlog.agents.executors.agent_cli import GO_ON
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.events import AttemptEnd, TaskReturned

CLI = os.environ.get("CLAUDE_CLI_PATH") or shutil.which("claude")
FREELY = ["--permission-mode", "bypassPermissions"]

pytestmark = [
    pytest.mark.real_cli,
    pytest.mark.skipif(CLI is None, reason="claude is not installed: npm i -g @anthropic-ai/claude-code"),
]  # fmt: skip


@pytest.fixture
def api() -> Iterator[FakeMessages]:
    with fake_messages() as fake:
        yield fake


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


@asynccontextmanager
async def running(
    server: EmbeddedServer, fleet: str, folder: Path, api: FakeMessages
) -> AsyncIterator[None]:
    assert CLI is not None
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": TESTS,
        "HOME": str(folder),
        "CLAUDE_CLI_PATH": CLI,
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "sk-ant-dummy",
        "IS_SANDBOX": "1",
    }
    options = {"environ": environ, "credentials": ("claude=key",)}
    async with agent(server.target, fleet, **options), coordinator(server.target, fleet):
        yield


def spec(folder: Path, prompt: str = "2+2", **args: Any) -> Any:
    # Fewer tries of its own, so that an error is told soon.
    env = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    return claude(prompt, cwd=str(folder), env=env, **args)


async def ends(client: Client, task_id: str) -> list[AttemptEnd]:
    events = [record.event for record in (await client.get(task_id)).events]
    return [event for event in events if isinstance(event, AttemptEnd)]


async def test_it_answers_and_its_session_can_be_resumed(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, api: FakeMessages
) -> None:
    async with running(server, fleet, tmp_path, api):
        first = await client.submit(spec(tmp_path, model="opus"))
        outcome = await first.result("60s")
        assert (outcome.state, outcome.result) == ("completed", "the answer"), outcome.error
        (end,) = await ends(client, first.task_id)
        second = await client.submit(spec(tmp_path, "again", model="opus", resume=end.session_id))
        assert (await second.result("60s")).state == "completed"
        (resumed,) = await ends(client, second.task_id)
        unknown = await client.submit(
            spec(tmp_path, resume="851e886c-8c02-421e-a89a-7e39737d9676"), max_attempts=2
        )
        refused = await unknown.result("60s")
    assert end.usage is not None
    assert resumed.usage is not None
    # The session's total goes on; what is kept is what each attempt has added.
    assert end.usage == resumed.usage
    assert (end.usage.input_tokens, end.usage.output_tokens) == (1000, 50)
    assert end.usage.cost_micro_usd > 0
    assert resumed.session_id == end.session_id
    assert (refused.error_class, refused.attempts) == ("permanent", 1)


@pytest.mark.parametrize(
    ("status", "error", "error_class"),
    [
        (401, {"type": "authentication_error", "message": "invalid x-api-key"}, "auth"),
        (429, {"type": "rate_limit_error", "message": "slow down"}, "throttled"),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API.",
            },
            "billing",
        ),
    ],
)
async def test_trouble_with_the_credential_returns_the_task(
    server: EmbeddedServer,
    client: Client,
    fleet: str,
    *,
    tmp_path: Path,
    api: FakeMessages,
    status: int,
    error: dict[str, str],
    error_class: str,
) -> None:
    api.status, api.error = status, error
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(spec(tmp_path))
        await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
    (returned,) = await ends(client, task.task_id)
    assert isinstance(returned, TaskReturned)
    assert returned.error_class == error_class, returned.error


async def test_an_overloaded_api_is_a_failed_attempt(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, api: FakeMessages
) -> None:
    api.status, api.error = 529, {"type": "overloaded_error", "message": "Overloaded"}
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(spec(tmp_path), max_attempts=1)
        outcome = await task.result("60s")
    assert (outcome.state, outcome.error_class) == ("failed", "transient")


async def test_a_further_attempt_goes_on_with_the_session(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, api: FakeMessages
) -> None:
    api.status, api.error = 529, {"type": "overloaded_error", "message": "Overloaded"}
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(spec(tmp_path, keep_session=True))
        await wait_for(client.fleet, "TaskRetried", task_id=task.task_id)
        api.status = 200
        outcome = await task.result("60s")
    found = await ends(client, task.task_id)
    assert (outcome.state, outcome.result, outcome.attempts) == ("completed", "the answer", 2)
    assert found[0].session_id == found[1].session_id
    assert GO_ON in str(api.requests[-1]["messages"])


async def test_a_used_up_subscription_waits_until_it_begins_anew(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, api: FakeMessages
) -> None:
    api.status, api.error = 429, {"type": "rate_limit_error", "message": "limit"}
    api.headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(time.time()) + 3600),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
    by_token = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy", "ANTHROPIC_API_KEY": ""}
    env = {"CLAUDE_CODE_MAX_RETRIES": "1"} | by_token
    one = claude("2+2", cwd=str(tmp_path), env=env, credential="subscription")
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(one)
        await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
    (returned,) = await ends(client, task.task_id)
    assert isinstance(returned, TaskReturned)
    assert returned.error_class == "usage_limit", returned.error
    assert 3_500_000 < returned.delay_ms <= 3_601_000


@pytest.mark.parametrize(
    ("args", "error_class"),
    [
        ({"args": ["--max-turns", "1", *FREELY]}, "max_turns"),
        ({"max_budget_usd": 0.001, "args": FREELY}, "max_budget"),
        ({"args": ["--no-such-option"]}, "permanent"),
    ],
)
async def test_limits_and_wrong_options_fail_for_good(
    server: EmbeddedServer,
    client: Client,
    fleet: str,
    *,
    tmp_path: Path,
    api: FakeMessages,
    args: dict[str, Any],
    error_class: str,
) -> None:
    api.contents = [[_bash("echo hello")]]
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(spec(tmp_path, **args), max_attempts=2)
        outcome = await task.result("60s")
    assert (outcome.state, outcome.error_class, outcome.attempts) == ("failed", error_class, 1)


async def test_a_cancel_ends_it_and_the_child_of_its_tool_soon(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path, api: FakeMessages
) -> None:
    started = tmp_path / "started"
    api.contents = [[_bash(f"echo $$ > {started}; while :; do sleep 0.2; done")]]
    async with running(server, fleet, tmp_path, api):
        task = await client.submit(spec(tmp_path, args=FREELY))
        await _until(lambda: started.exists() and started.read_text().strip())
        child = int(started.read_text())
        cancelled_at = time.monotonic()
        await task.cancel()
        outcome = await task.result("30s")
        took_s = time.monotonic() - cancelled_at
        assert not is_alive(child)
    (end,) = await ends(client, task.task_id)
    assert outcome.state == "cancelled"
    assert took_s < 3
    assert end.usage is not None
    assert end.usage.cost_micro_usd > 0


def _bash(command: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": command}}


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - nothing tells of a strange program's file
            await asyncio.sleep(0.02)
