"""A command group that imports a command's module only when that command is called for.

`fleetlog submit` must not pay for what `fleetlog sql` needs, and `fleetlog --help` for nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from fleetlog.cli.flags import EPILOG, add_shared_flags


class LazyGroup(TyperGroup):
    """A group whose commands are named in `sections`; each names the place of a function or of a `Typer`."""

    sections: ClassVar[Mapping[str, Mapping[str, tuple[str, str]]]] = {}
    """By heading, by command: `module:attribute` and the line for the list of commands."""
    apart: ClassVar[frozenset[str]] = frozenset()
    """Commands that do not take the flags that all others share."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.help = keep_examples(self.help)
        add_shared_flags(self, is_hidden=False)
        for commands in self.sections.values():
            for name, (_, summary) in commands.items():
                # What the list, the completion and the search for near names see.
                self.commands[name] = TyperCommand(name, help=summary, rich_markup_mode=None)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Imports the command."""
        del ctx
        for commands in self.sections.values():
            if (entry := commands.get(cmd_name)) is not None:
                return load(cmd_name, entry[0], has_shared_flags=cmd_name not in self.apart)
        return None

    def format_commands(self, ctx: object, formatter: Any) -> None:
        """Lists the commands under their headings without importing them."""
        del ctx
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])


def load(name: str, place: str, *, has_shared_flags: bool) -> TyperCommand | TyperGroup:
    """The command at `module:attribute`."""
    module, _, attribute = place.partition(":")
    found: typer.Typer | Callable[..., None] = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        app = plain_typer()
        app.command(name)(found)
        found = app
    command = get_command(found)
    assert isinstance(command, TyperCommand | TyperGroup)
    command.name = name
    _prepare(command, has_shared_flags=has_shared_flags)
    return command


def plain_typer(**settings: Any) -> typer.Typer:
    """A `Typer` that shows texts as they are: no markup in them, no decorated tracebacks."""
    return typer.Typer(
        rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, **settings
    )


def keep_examples(text: str | None) -> str:
    """The help text with the lines of its examples kept as they are; all else is wrapped anew."""
    return (text or "").replace("\n\nExample", "\n\n\b\nExample")


def _prepare(command: TyperCommand | TyperGroup, *, has_shared_flags: bool) -> None:
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            assert isinstance(each, TyperCommand | TyperGroup)
            _prepare(each, has_shared_flags=has_shared_flags)
    if has_shared_flags and not (
        isinstance(command, TyperGroup) and not command.invoke_without_command
    ):
        add_shared_flags(command, is_hidden=True)
        command.epilog = EPILOG
    command.help = keep_examples(command.help)
