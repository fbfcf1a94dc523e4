"""The table of agent CLIs: how each is found, started and read. The built-in ones stand in `profiles.toml`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.agents.environment import COMMAND_VARIABLES, allowed
from fleetlog.agents.executors.claude_stream import ClaudeStream
from fleetlog.agents.executors.cli_stream import NewStream, Price
from fleetlog.agents.executors.other_streams import (
    CodexStream,
    GeminiStream,
    OpencodeStream,
    TextStream,
)
from fleetlog.bus.errors import ConfigError

Parser = Literal["claude", "codex", "gemini", "opencode", "text"]
CredentialMode = Literal["session", "key"]
"""`session`: the login of the person who runs the agent; `key`: the keys in the agent's environment."""

STREAMS: Final[Mapping[Parser, NewStream]] = {
    "claude": ClaudeStream,
    "codex": CodexStream,
    "gemini": GeminiStream,
    "opencode": OpencodeStream,
    "text": TextStream,
}

Seconds = Annotated[float, Meta(gt=0, le=7 * 24 * 3600)]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent CLI. In the lists of arguments `{session_id}`, `{resume}`, `{model}`, `{budget_usd}` and
    `{prompt_file}` are filled in; without a `{prompt_file}` the prompt comes on stdin, never as an argument.
    """

    program: str
    """The program's name, or its path."""
    argv: tuple[str, ...]
    """Always."""
    parser: Parser = "text"
    """What its stdout is."""
    new_session: tuple[str, ...] = ()
    """When it begins a session; `{session_id}` is a new UUID for each attempt."""
    resume: tuple[str, ...] | None = None
    """When it goes on with one; None: it can't."""
    model: tuple[str, ...] | None = None
    """When a model is asked for; None: it can't be."""
    budget: tuple[str, ...] | None = None
    """When there is a limit on what it may cost; None: it knows none."""
    last: tuple[str, ...] = ()
    """Behind all others."""
    preflight: tuple[str, ...] = ()
    """Asks whether it is logged in: JSON with `loggedIn`. Empty: is not asked."""
    path_variable: str | None = None
    """A variable of the agent's environment that names the program's path."""
    look_in: tuple[str, ...] = ()
    """Folders where it may be besides PATH."""
    variables: tuple[str, ...] = ()
    """What it may see of the agent's environment, besides what every command may; `*` as usual."""
    keys: tuple[str, ...] = ()
    """Those of them that it sees only if its credential is of mode `key`."""
    remove: tuple[str, ...] = ()
    """Those of them that it never sees."""
    env: dict[str, str] = {}
    """Set for it, unless the task says otherwise."""
    prices: dict[str, tuple[Price, Price, Price, Price]] = {}
    """By pattern of the model's name, dollars per million tokens: input, output, cache written, cache read."""
    startup_s: Seconds = 60.0
    """From its start to its first line that says so."""
    idle_s: Seconds = 600.0
    """The longest silence while no tool runs."""
    tool_s: Seconds = 1800.0
    """The longest silence while one does."""
    settled_s: Seconds = 5.0
    """How long it may go on after its result without saying anything more."""

    def environment(self, environ: Mapping[str, str], mode: CredentialMode) -> dict[str, str]:
        """What the CLI sees of the worker's environment."""
        picked = allowed(environ, (*COMMAND_VARIABLES, *self.variables))
        hidden = {*self.remove, *(self.keys if mode == "session" else ())}
        return {name: text for name, text in picked.items() if name not in hidden} | self.env

    def find(self, environ: Mapping[str, str]) -> str | None:
        """The program's path: what the variable says, PATH, the usual folders; None if it is nowhere."""
        if self.path_variable is not None and (named := environ.get(self.path_variable)):
            return shutil.which(named, path=environ.get("PATH", os.defpath))
        home = environ.get("HOME", "~")
        folders = [folder.replace("~", home, 1) for folder in self.look_in]
        path = os.pathsep.join([environ.get("PATH", os.defpath), *folders])
        return shutil.which(self.program, path=path)


def load_profiles(path: str | None = None) -> dict[str, Profile]:
    """The built-in profiles, and those of a file of one's own, which replace built-in ones of their name.

    Raises:
        ConfigError: the file can't be read, or does not fit.
    """
    profiles = _read(Path(__file__).with_name("profiles.toml"))
    return profiles | _read(Path(path)) if path is not None else profiles


def read_credentials(pairs: Iterable[str]) -> dict[str, CredentialMode]:
    """The modes of named credentials, from `NAME=session` and `NAME=key`.

    Raises:
        ConfigError: one is neither.
    """
    modes: dict[str, CredentialMode] = {}
    for pair in pairs:
        match pair.partition("="):
            case (name, "=", ("session" | "key") as mode) if name:
                modes[name] = "key" if mode == "key" else "session"
            case _:
                raise ConfigError(
                    f"credential {pair!r} is neither NAME=session nor NAME=key, such as claude=key"
                )
    return modes


def profile_variables(profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    """All that some profile may see: what a worker must be given, and keeps from all else that it runs."""
    names = (
        name
        for profile in profiles.values()
        for name in (*profile.variables, *filter(None, [profile.path_variable]))
    )
    return tuple(dict.fromkeys(names))


def _read(path: Path) -> dict[str, Profile]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, Profile])
    except OSError as error:
        raise ConfigError(f"the profiles {path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"the profiles {path} cannot be used: {error}") from error
