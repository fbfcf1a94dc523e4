"""Settings: one frozen struct, from defaults, then `fleetlog.toml`, then the environment, then flags.

This is the only module that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleetlog.bus.errors import ConfigError
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

Durability = Literal["always", "relaxed"]

FILE_NAME: Final = "fleetlog.toml"
ENVIRONMENT: Final[Mapping[str, str]] = {
    "url": "FLEETLOG_URL",
    "fleet": "FLEETLOG_FLEET",
    "creds": "FLEETLOG_CREDS",
    "data": "FLEETLOG_DATA",
    "nats_server": "FLEETLOG_NATS_SERVER",
    "lifeline_fd": "FLEETLOG_LIFELINE",
}
"""By field of `Settings`: the variable that sets it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is settled before a command starts."""

    data: Path
    """Absolute; this machine's folder of the fleet. Default: the XDG data folder, `fleetlog/<fleet>`."""
    url: str | None = None
    """The bus. None: the fleet that `fleetlog up` runs on `data`."""
    fleet: str = "main"
    """The fleet's name; one token of a subject."""
    creds: Path | None = None
    """A NATS credentials file for `url`."""
    durability: Durability = "always"
    """Of a server started here. `always`: an acknowledged event is on disk. `relaxed`: a power loss takes
    up to one second of them."""
    port: int | None = None
    """Of a server started here; None: the one it had before, else a free one."""
    nats_server: Path | None = None
    """The nats-server binary; None: the one that was installed with fleetlog, else the one on PATH."""
    lifeline_fd: int | None = None
    """The read end of a pipe that ends with the `fleetlog up` that started this process; None outside one."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer (the environment, the flags) says; None leaves the layer below as it is."""

    url: str | None = None
    """An empty text means: no address, whatever a layer below says."""
    fleet: str | None = None
    creds: Path | None = None
    data: Path | None = None
    durability: str | None = None
    port: int | None = None
    nats_server: Path | None = None
    lifeline_fd: int | None = None


class _FileKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # Without nats_server: a program's path is not taken from a folder that one happens to stand in.
    url: str | None = None
    fleet: str | None = None
    creds: str | None = None
    data: str | None = None
    durability: Durability | None = None
    port: int | None = None


def load_settings(
    flags: Overrides | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Puts the layers together: defaults < file < environment < flags.

    The file is `fleetlog.toml` in the current folder or, if there is none, in the XDG configuration folder
    under `fleetlog/`; paths in it are relative to it.

    Args:
        flags: what the command line says.
        environ: the environment; None for this process's own.
        cwd: the current folder; None for this process's own.

    Raises:
        ConfigError: a key is unknown or a value is not allowed; the message says where it stands.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    said: dict[str, object] = {}
    for layer in (_read_file(cwd, environ), _read_environment(environ), flags or Overrides()):
        fields = msgspec.structs.asdict(layer)
        said.update({name: value for name, value in fields.items() if value is not None})
    if said.get("url") == "":
        del said["url"]
    for name in ("creds", "data", "nats_server"):
        if name in said:
            said[name] = cwd / Path(str(said[name])).expanduser()
    _check(said)
    said.setdefault("data", _data_home(environ) / "fleetlog" / str(said.get("fleet", "main")))
    try:
        return msgspec.convert(said, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"settings: {error}") from error


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `extra`, for a child process."""
    return {**os.environ, **extra}


def _read_file(cwd: Path, environ: Mapping[str, str]) -> Overrides:
    for folder in (cwd, _home(environ, "XDG_CONFIG_HOME", ".config") / "fleetlog"):
        path = folder / FILE_NAME
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}") from error
        return _parse_file(path, text)
    return Overrides()


def _parse_file(path: Path, text: bytes) -> Overrides:
    try:
        found = msgspec.toml.decode(text, type=dict[str, object])
        _check_keys(path, found)
        keys = msgspec.convert(found, _FileKeys)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error
    creds, data = _path(keys.creds), _path(keys.data)
    return Overrides(
        url=keys.url,
        fleet=keys.fleet,
        creds=path.parent / creds.expanduser() if creds is not None else None,
        data=path.parent / data.expanduser() if data is not None else None,
        durability=keys.durability,
        port=keys.port,
    )


def _check_keys(path: Path, found: Mapping[str, object]) -> None:
    known = _FileKeys.__struct_fields__
    for key in found:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {key!r}; {hint}")


def _read_environment(environ: Mapping[str, str]) -> Overrides:
    # An empty variable counts as not set, save for the address, where it says "none".
    found = {
        field: environ[name]
        for field, name in ENVIRONMENT.items()
        if environ.get(name) or (field == "url" and name in environ)
    }
    lifeline = found.get("lifeline_fd")
    if lifeline is not None and not lifeline.isdecimal():
        raise ConfigError(f"{ENVIRONMENT['lifeline_fd']} is a file descriptor, not {lifeline!r}")
    return Overrides(
        url=found.get("url"),
        fleet=found.get("fleet"),
        creds=_path(found.get("creds")),
        data=_path(found.get("data")),
        nats_server=_path(found.get("nats_server")),
        lifeline_fd=int(lifeline) if lifeline is not None else None,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def _check(said: Mapping[str, object]) -> None:
    if said.get("durability", "always") not in ("always", "relaxed"):
        raise ConfigError(f"durability is 'always' or 'relaxed', not {said['durability']!r}")
    port = said.get("port")
    if isinstance(port, int) and not 0 < port < 65536:
        raise ConfigError(f"port {port} is not in 1 to 65535")
    try:
        check_id(str(said.get("fleet", "main")), "fleet")
    except InvalidInput as error:
        raise ConfigError(str(error)) from error


def _data_home(environ: Mapping[str, str]) -> Path:
    return _home(environ, "XDG_DATA_HOME", ".local/share")


def _home(environ: Mapping[str, str], variable: str, default: str) -> Path:
    # The XDG specification: a relative path in these variables is to be ignored.
    named = Path(environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / default
