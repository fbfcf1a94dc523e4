"""What a whole fleet leaves behind: SQL with nothing missing, and a projection that can be made again."""

from __future__ import annotations

import signal
from pathlib import Path

from support.command_line import HANDLERS, CommandLine

from fleetlog.bus.background import background
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.settings import Settings
from fleetlog.projections.files import discard
from fleetlog.projections.projector import Projector
from fleetlog.projections.store import open_store

NAMELESS = """
SELECT count(*) AS n FROM attempts
WHERE agent_id IS NULL OR worker_id IS NULL OR host IS NULL OR agent_id = '' OR worker_id = '' OR host = ''
"""


def live_a_little(cli: CommandLine) -> None:
    """Success, failure, retries, a command, a cancel of a waiting and of a running task, a delay."""
    cli("submit", "add", '{"a": 1}', "--wait")
    cli.run("submit", "boom", "--max-attempts", "1", "--wait")
    cli("submit", "flaky", "--wait")
    cli("run", "--wait", "--", "echo", "hello")
    cli("submit", "add", '{"a": 2}', "--delay", "100ms", "--wait")
    running = cli("run", "--json", "--", "sleep", "600").value["task_id"]
    waiting = cli("submit", "add", '{"a": 3}', "--delay", "1h", "--json").value["task_id"]
    cli("task", "cancel", running, waiting, "--wait")


async def digests(data: Path) -> dict[str, object]:
    """Projects the log of a stopped fleet to its end and digests every table."""
    settings = Settings(data=data)
    async with EmbeddedServer(settings) as server, open_fleet(server.target, "main") as fleet:
        end = await fleet.log.end()
        projector = Projector(fleet.log, data)
        async with background(projector.run()):
            await projector.ready.wait()
            await projector.reached(end)
    store = open_store(data / "projection.duckdb", "main")
    try:
        assert store.checkpoint.seq == end
        return dict(store.digests())
    finally:
        store.close()


async def test_nothing_is_nameless_and_a_deleted_projection_comes_back_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "shown_handlers.py").write_text(HANDLERS)
    data = tmp_path / "data"
    cli = CommandLine(data)
    words = ("up", "--workers", "2", "--app", "shown_handlers:agent")
    with (tmp_path / "up.log").open("wb") as log:
        up = cli.start(*words, cwd=tmp_path, stdout=log, stderr=log)
    try:
        cli("status", "--wait", "60s")
        live_a_little(cli)
        states = cli(
            *("sql", "--fresh", "--format", "json"),
            "SELECT state, count(*) AS n FROM tasks GROUP BY ALL ORDER BY ALL",
        ).value
        nameless = cli("sql", "--fresh", "--format", "json", NAMELESS).value
        attempts = cli(
            "sql", "--format", "json", "SELECT DISTINCT outcome FROM attempts ORDER BY 1"
        ).value
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0
    assert states == [
        {"state": "cancelled", "n": 2},
        {"state": "completed", "n": 4},
        {"state": "failed", "n": 1},
    ]
    assert nameless == [{"n": 0}]
    assert {row["outcome"] for row in attempts} == {"completed", "failed", "retried", "cancelled"}
    before = await digests(data)
    discard(data / "projection.duckdb")
    assert await digests(data) == before
