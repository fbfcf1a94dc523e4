"""`fleetlog agent list` and `drain`, beside `fleetlog agent` itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import typer

from fleetlog.agents.strains import strains_text
from fleetlog.bus.agent_requests import DrainRequest, ask_drain
from fleetlog.bus.background import background
from fleetlog.bus.client import Client
from fleetlog.bus.errors import Refused, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.agent import agent
from fleetlog.cli.confirming import confirm
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import REFUSED, TIMED_OUT, say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption, WaitTimeoutOption, seconds_to_wait
from fleetlog.cli.overview import AgentSeen, look_at_agents
from fleetlog.cli.rendering import instant_text, write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import AgentLost, AgentStarted, AgentStopped
from fleetlog.schemas.subjects import agents

ANSWER_TIMEOUT_S: Final = 5.0

app = plain_typer(invoke_without_command=True, subcommand_metavar="[list|drain]")
app.callback()(agent)


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    names: tuple[str, ...]
    is_all: bool
    request: DrainRequest
    is_sure: bool
    is_waiting: bool
    wait_timeout_s: float | None
    is_json: bool


@app.command("list")
def list_agents(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List the agents that have started and not ended: where they run, how they are, and what they run.

    `running`, `strained` (the host is short of disk, memory or file handles: it takes nothing new), `draining`,
    or `silent` (no beat for three seconds). `fleetlog sql "FROM agents"` has those that have ended, too.

    Example: fleetlog agent list
    """
    run(_list(ctx, is_json=is_json))


@app.command("drain")
def drain_agents(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[AGENT|HOST...]", help="Their ids or hosts.", show_default=False),
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every agent of the fleet.")] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Each starts anew when it has drained; with --wait one after the other.",
        ),
    ] = False,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until they have stopped, or are there again.")
    ] = False,
    wait_timeout: WaitTimeoutOption = None,
    is_json: JsonOption = False,
) -> None:
    """Drain agents, from any machine: they take nothing new, finish what runs or give it back, and end.

    What runs gets as long as the agent's --drain says. Whatever keeps agents alive (`fleetlog up`, systemd)
    starts a drained one anew; there, stop it by its own means if it shall stay away. --restart executes the
    agent's command line again, in the same process, with whatever version of fleetlog is installed by then.

    Examples:
      fleetlog agent drain build-7 --wait --reason "new kernel"
      fleetlog agent drain --all --restart --wait
    """
    if bool(names) == all_:
        raise InvalidInput("name agents by id or host (`fleetlog agent list`), or say --all")
    wanted = _Wanted(
        names=tuple(dict.fromkeys(names or ())),
        is_all=all_,
        request=DrainRequest(actor=actor(), reason=reason, is_restart=restart),
        is_sure=yes,
        is_waiting=wait,
        wait_timeout_s=seconds_to_wait(wait_timeout, is_waiting=wait),
        is_json=is_json,
    )
    raise typer.Exit(run(_drain(ctx, wanted)))


async def _list(ctx: typer.Context, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        seen = await look_at_agents(client.fleet)
    if is_json:
        write_json([{**msgspec.structs.asdict(each), "busy": each.busy} for each in seen])
    elif seen:
        names = ("agent", "host", "state", "queues", "busy", "runs", "last beat", "version")
        write_table(names, [_cells(each) for each in seen])
    else:
        say("no agent runs: start one with `fleetlog agent`")
    for each in seen:
        if each.strains and not is_json:
            say(f"{each.agent_id} on {each.host} is short of {strains_text(each.strains)}")


def _cells(seen: AgentSeen) -> list[object]:
    running = [worker.task_id for worker in seen.workers if worker.task_id is not None]
    runs = ", ".join(running[:3]) + (f" and {len(running) - 3} more" if len(running) > 3 else "")
    return [
        *(seen.agent_id, seen.host, seen.state, ", ".join(seen.queues)),
        *(f"{seen.busy}/{seen.slots}", runs or None, instant_text(seen.heard_at), seen.version),
    ]


async def _drain(ctx: typer.Context, wanted: _Wanted) -> int:
    async with connected(ctx) as client:
        chosen, missing = _choose(await look_at_agents(client.fleet), wanted)
        for name in missing:
            say(f"Error: no agent has the id or host {name}: see `fleetlog agent list`")
        if len(chosen) > 1:
            hosts = ", ".join(sorted({each.host for each in chosen}))
            confirm(f"drain {len(chosen)} agents ({hosts})", is_sure=wanted.is_sure)
        draining = _Draining(client, wanted)
        code = await draining.run(chosen)
    if wanted.is_json:
        write_json(draining.rows)
    return code or (REFUSED if missing else 0)


def _choose(seen: Sequence[AgentSeen], wanted: _Wanted) -> tuple[list[AgentSeen], list[str]]:
    """Whom it is about, and the names that are nobody's."""
    if wanted.is_all:
        if not seen:
            raise Refused("no agent runs: there is nothing to drain")
        return list(seen), []
    chosen = [each for each in seen if {each.agent_id, each.host} & set(wanted.names)]
    known = {name for each in chosen for name in (each.agent_id, each.host)}
    return chosen, [name for name in wanted.names if name not in known]


class _Draining:
    def __init__(self, client: Client, wanted: _Wanted) -> None:
        self._fleet = client.fleet
        self._wanted = wanted
        self._lives = _Lives(client.fleet)
        self.rows: list[dict[str, Any]] = []

    async def run(self, chosen: Sequence[AgentSeen]) -> int:
        if not self._wanted.is_waiting:
            return max([await self._ask(each) for each in chosen], default=0)
        end = await self._fleet.log.end()
        try:
            async with (
                background(self._lives.follow(after=end)),
                asyncio.timeout(self._wanted.wait_timeout_s),
            ):
                return await self._in_turn(chosen)
        except TimeoutError:
            left = [row["agent_id"] for row in self.rows if row["state"] == "draining"]
            say(f"still draining: {', '.join(left)}; they go on")
            return TIMED_OUT

    async def _in_turn(self, chosen: Sequence[AgentSeen]) -> int:
        if self._wanted.request.is_restart:
            # One after the other, so that the others go on meanwhile.
            codes = []
            for each in chosen:
                codes.append(await self._ask(each))
                await self._wait(each, codes[-1])
            return max(codes, default=0)
        codes = [await self._ask(each) for each in chosen]
        for each, code in zip(chosen, codes, strict=True):
            await self._wait(each, code)
        return max(codes, default=0)

    async def _ask(self, seen: AgentSeen) -> int:
        row: dict[str, Any] = {"agent_id": seen.agent_id, "host": seen.host}
        self.rows.append(row)
        try:
            answer = await ask_drain(
                self._fleet.services,
                seen.agent_id,
                self._wanted.request,
                timeout_s=ANSWER_TIMEOUT_S,
            )
        except Unavailable as error:
            row |= {"state": "unreachable", "running": None}
            say(
                f"Error: agent {seen.agent_id} on {seen.host} does not answer ({error}): if its host is up,"
                " stop the agent there; what it holds goes to others once it is held for lost"
            )
            return REFUSED
        row |= {"state": "draining", "running": answer.running}
        if not self._wanted.is_json:
            already = "" if answer.is_new else " already"
            typer.echo(
                f"agent {seen.agent_id} on {seen.host} drains{already}, {answer.running} running"
            )
        return 0

    async def _wait(self, seen: AgentSeen, code: int) -> None:
        if code:
            return
        [row] = [row for row in self.rows if row["agent_id"] == seen.agent_id]
        row["state"] = await self._lives.ended(seen.agent_id)
        text = f"agent {seen.agent_id} on {seen.host} has {row['state']}"
        if self._wanted.request.is_restart:
            row["new_agent_id"] = await self._lives.next_on(seen.host)
            text += f" and is there again as {row['new_agent_id']}"
        if not self._wanted.is_json:
            typer.echo(text.replace("has lost", "was lost"))


class _Lives:
    """Which agents end and start, from the log."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ends: dict[str, str] = {}
        self._starts: dict[str, list[str]] = {}
        self._changed = asyncio.Event()

    async def follow(self, *, after: int) -> None:
        """Keeps it up; for ever."""
        subjects = agents(self._fleet.name)
        async for page in self._fleet.log.follow(after=after, subjects=subjects):
            for record in map(open_stored, page):
                if record.subject is None:
                    continue
                match record.event:
                    case AgentStopped():
                        self._ends.setdefault(record.subject.id, "stopped")
                    case AgentLost():
                        self._ends.setdefault(record.subject.id, "lost")
                    case AgentStarted(host=host):
                        self._starts.setdefault(host, []).append(record.subject.id)
            self._changed.set()

    async def ended(self, agent_id: str) -> str:
        """Waits until it has ended; answers how."""
        while agent_id not in self._ends:
            await self._change()
        return self._ends[agent_id]

    async def next_on(self, host: str) -> str:
        """Waits until another one has started on the host, and takes it."""
        while not self._starts.get(host):
            await self._change()
        return self._starts[host].pop(0)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
