"""The flags that every command takes: which fleet, and how much to say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from fleetlog.bus.settings import Overrides, Settings, load_settings

EPILOG: Final = (
    "Every command also takes --url, --fleet, --creds, --data and -v: see `fleetlog --help`."
)


class Asked:
    """What the flags said; one for a whole command line."""

    def __init__(self) -> None:
        self.flags = Overrides()


def asked(ctx: typer.Context) -> Asked:
    """What the flags said so far."""
    found: Asked = ctx.ensure_object(Asked)
    return found


def settings_of(ctx: typer.Context) -> Settings:
    """The settings under this command line.

    Raises:
        ConfigError: a setting is wrong.
    """
    return load_settings(asked(ctx).flags)


def add_shared_flags(command: TyperCommand | TyperGroup, *, is_hidden: bool) -> None:
    """Lets `--url` and the like stand there, before or behind the command's name; the last one counts."""
    for option in _options():
        option.hidden = is_hidden
        command.params.append(option)


def note_flag(ctx: typer.Context, param: typer.CallbackParam, value: object) -> None:
    """Keeps a flag's value for `settings_of`."""
    if value is not None and param.name is not None:
        mine = asked(ctx)
        mine.flags = msgspec.structs.replace(mine.flags, **{param.name: value})


def note_verbose(value: bool) -> None:  # noqa: FBT001 - typer's signature
    """Shows what goes on inside, and tracebacks."""
    if value:
        logging.getLogger().setLevel(logging.DEBUG)


def _flag(metavar: str, text: str) -> Any:
    return typer.Option(
        metavar=metavar, help=text, callback=note_flag, expose_value=False, is_eager=True
    )


def _shared(
    *,
    url: Annotated[
        str | None,
        _flag(
            "URL",
            "Address of the bus, such as nats://host:4222. Default: the fleet that `fleetlog up` runs here.",
        ),
    ] = None,
    fleet: Annotated[str | None, _flag("NAME", "Name of the fleet. Default: main.")] = None,
    creds: Annotated[Path | None, _flag("FILE", "A NATS credentials file for --url.")] = None,
    data: Annotated[
        Path | None,
        _flag(
            "DIR",
            "Folder of the fleet on this machine. Default: the XDG data folder, fleetlog/<fleet>.",
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Say what goes on; show where errors come from.",
            callback=note_verbose,
            expose_value=False,
            is_eager=True,
        ),
    ] = False,
) -> None: ...


def _options() -> list[TyperOption]:
    app = typer.Typer(add_completion=False)
    app.command()(_shared)
    return [param for param in get_command(app).params if isinstance(param, TyperOption)]
