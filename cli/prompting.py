"""`fleetlog run --executor …`: a prompt for an agent CLI as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleetlog.cli.grouping import Group
from fleetlog.cli.inputs import encode_object, read_stdin
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec

_ARGUMENTS: Final = ("model", "max_budget_usd", "resume", "keep_session", "credential")
_NEEDS_EXECUTOR: Final = "goes with --executor: name one, such as --executor claude"


class Prompting(Group, frozen=True, kw_only=True):
    """The options for agent CLIs."""

    executor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="An agent CLI instead of a command: claude, codex, gemini, opencode or another of the"
            " agent's.",
        ),
    ] = None
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|@FILE|-", help="What the agent CLI shall do; - reads it from stdin."
        ),
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Which model the agent CLI shall use.")
    ] = None
    max_budget_usd: Annotated[
        float | None,
        typer.Option(
            metavar="DOLLARS",
            help="The agent CLI stops when an attempt has cost more; it overshoots by one request.",
        ),
    ] = None
    credential: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which credential of the agent.",
            show_default="the executor's name",
        ),
    ] = None

    def check_unused(self) -> None:
        """For a task that is a command.

        Raises:
            InvalidInput: one of the options was given.
        """
        for name in ("prompt", *_ARGUMENTS):
            if self._said(name) is not None:
                raise InvalidInput(f"--{name.replace('_', '-')} {_NEEDS_EXECUTOR}")

    def spec(
        self, executor: str, words: Sequence[str], more: Mapping[str, Any], key: str | None
    ) -> TaskSpec:
        """The task; `words` are further arguments of the CLI, `more` are `env` and `cwd`.

        Raises:
            InvalidInput: there is no prompt, it can't be read, or the budget is none.
        """
        if executor == "python":
            raise InvalidInput("a handler is submitted with `fleetlog submit`, not with `run`")
        if "stdin" in more:
            raise InvalidInput(f"--stdin is for commands: give {executor} a --prompt")
        arguments: dict[str, Any] = {"prompt": self._prompt(executor), **more}
        for name in _ARGUMENTS:
            if (value := self._said(name)) is not None:
                arguments[name] = value
        if self.max_budget_usd is not None and not 0 < self.max_budget_usd <= 1e6:
            raise InvalidInput("--max-budget-usd must be an amount above 0, such as 2.50")
        if words:
            arguments["args"] = list(words)
        args = encode_object(arguments, "prompt")
        return TaskSpec(executor=executor, handler=executor, args=args, key=key)

    def _said(self, name: str) -> object | None:
        said = getattr(self, name, None)
        return None if said is False else said  # a flag that was not given

    def _prompt(self, executor: str) -> str:
        if self.prompt is None:
            raise InvalidInput(f"--executor {executor} needs --prompt TEXT, @FILE or -")
        text = _read(self.prompt)
        if not text.strip():
            raise InvalidInput("the prompt is empty: say what shall be done")
        return text


class SessionPrompting(Prompting, frozen=True, kw_only=True):
    """The options for agent CLIs, and those for their sessions."""

    resume: Annotated[
        str | None,
        typer.Option(
            metavar="SESSION", help="The session to go on with, as `fleetlog task show` tells it."
        ),
    ] = None
    keep_session: Annotated[
        bool,
        typer.Option(
            "--keep-session",
            help="A further attempt goes on with the session of the one before, where that is still there.",
        ),
    ] = False


def _read(prompt: str) -> str:
    if prompt == "-":
        return read_stdin("prompt")
    if not prompt.startswith("@"):
        return prompt
    try:
        return Path(prompt[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the prompt {prompt[1:]} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the prompt {prompt[1:]} must be UTF-8 text: {error}") from error
