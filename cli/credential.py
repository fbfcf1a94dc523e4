"""`fleetlog credential`: the credentials of agent CLIs, for the whole fleet."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from fleetlog.bus.core.credential import Credential
from fleetlog.bus.credentials import load_credentials, pause, resume
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.cli.actor import actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import instant_text, one_line, write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.events import CredentialPaused, CredentialResumed

app = plain_typer(no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The credential, such as claude.", show_default=False)
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded.")
]


@app.callback()
def _credential() -> None:
    """List, pause and resume the credentials of agent CLIs.

    A credential is the login or key that attempts of an agent CLI use. When its service says that a limit is
    reached, or that it is not logged in, it is paused for the whole fleet: tasks that need it wait in their
    queues, no attempt is counted, and it is tried again by itself when its time has come.

    Example: fleetlog credential list
    """


@app.command("list")
def list_credentials(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List the credentials that were ever paused or whose use was reported.

    Example: fleetlog credential list
    """
    rows = run(_list(ctx))
    if is_json:
        write_json(rows)
    elif rows:
        names = ("credential", "state", "until", "why", "used")
        write_table(names, [_row(row) for row in rows])
    else:
        say("no credential was ever paused, and none's use was reported")


@app.command("pause")
def pause_credential(
    ctx: typer.Context,
    name: NameArgument,
    *,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="How long.", show_default="until resumed"),
    ] = None,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Let no attempt start that uses a credential.

    What runs goes on. Tasks that need it wait in their queues; `fleetlog credential resume` ends it.

    Examples:
      fleetlog credential pause claude --for 2h --reason "keep the rest for the afternoon"
      fleetlog credential pause claude
    """
    length_ms = None if duration is None else parse_duration(duration, "for")
    known = run(_pause(ctx, name, length_ms, reason))
    _tell(known, is_json=is_json)


@app.command("resume")
def resume_credential(
    ctx: typer.Context,
    name: NameArgument,
    *,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Use a paused credential again, now.

    Tasks that wait for it are offered again within half a minute; those whose attempts it ended, at the time
    that was set then.

    Example: fleetlog credential resume claude
    """
    _tell(run(_resume(ctx, name, reason)), is_json=is_json)


async def _list(ctx: typer.Context) -> list[dict[str, Any]]:
    async with connected(ctx) as client:
        fleet = client.fleet
        rows = {name: _fields(known) for name, known in (await load_credentials(fleet.log)).items()}
        for used in await _used(fleet):
            name = used["credential"]
            rows[name] = rows.get(name, _fields(Credential(name=name))) | used
        return [rows[name] for name in sorted(rows)]


async def _used(fleet: Fleet) -> list[dict[str, Any]]:
    """What services told of allowances; nothing without a projector: pauses stand in the log itself."""
    try:
        _, rows = await ask_rows(
            fleet.services, "SELECT credential, utilization, allowances FROM credentials"
        )
    except (Unavailable, ProjectionError):
        say("no projector answers, so that the use of allowances is not known here")
        return []
    return rows


async def _pause(
    ctx: typer.Context, name: str, length_ms: int | None, reason: str | None
) -> Credential:
    async with connected(ctx) as client:
        fleet = client.fleet
        now = fleet.log.now()
        event = CredentialPaused(
            id=fleet.system.new_id(),
            occurred_at=now,
            actor=actor(),
            reason=reason,
            error_class="paused",
            error=reason or f"paused by {actor() or 'someone'}",
            until=None if length_ms is None else now + timedelta(milliseconds=length_ms),
        )
        return await pause(fleet.log, name, event)


async def _resume(ctx: typer.Context, name: str, reason: str | None) -> Credential:
    async with connected(ctx) as client:
        fleet = client.fleet
        event = CredentialResumed(
            id=fleet.system.new_id(), occurred_at=fleet.log.now(), actor=actor(), reason=reason
        )
        return await resume(fleet.log, name, event)


def _fields(known: Credential) -> dict[str, Any]:
    pause = known.pause
    return {
        "credential": known.name,
        "state": "active" if pause is None else "paused",
        "paused_until": pause.until if pause is not None else None,
        "error_class": pause.error_class if pause is not None else None,
        "error": pause.error if pause is not None else None,
        "actor": pause.actor if pause is not None else None,
        "reason": pause.reason if pause is not None else None,
        "utilization": None,
        "allowances": [],
    }


def _row(row: dict[str, Any]) -> list[str]:
    until = row["paused_until"]
    why = "" if row["error_class"] is None else f"{row['error_class']}: {one_line(row['error'])}"
    if row["state"] == "paused":
        until = "resumed by hand" if until is None else instant_text(until)
    used = ", ".join(f"{each['window']} {each['utilization']:.0%}" for each in row["allowances"])
    return [row["credential"], row["state"], until or "", why, used]


def _tell(known: Credential, *, is_json: bool) -> None:
    if is_json:
        write_json(_fields(known))
    elif known.pause is None:
        say(f"credential {known.name} is not paused")
    else:
        until = known.pause.until
        text = "until someone resumes it" if until is None else f"until {instant_text(until)}"
        say(f"credential {known.name} is paused {text}: {known.pause.error}")
