"""Who a process says it is to the server."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from urllib.parse import unquote

from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.errors import ConfigError


def check_creds(path: Path) -> None:
    """Refuses a credentials file that can't be used.

    Raises:
        ConfigError: it can't be read, or nkeys is not installed.
    """
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the credentials file {path} can't be read ({error.strerror}): give another one with --creds"
        ) from error
    if importlib.util.find_spec("nkeys") is None:
        raise ConfigError(
            "a credentials file needs the Python package nkeys: install it (pip install 'fleetlog[creds]'), or"
            " give user and password as --url nats://USER:PASSWORD@HOST:PORT"
        )


def login_of(target: Target) -> dict[str, str | None]:
    """The credentials, for every server: a cluster tells of its others by bare addresses, without passwords."""
    if target.user is not None:
        return {"user": target.user, "password": target.password}
    for url in target.url.split(","):
        user, password = _userinfo(url)
        if password:
            return {"user": user, "password": password}
        if user:
            return {"token": user}
    return {}


def without_passwords(url: str) -> str:
    """The addresses as a message may name them: messages end up in logs."""
    return ",".join(re.sub(r"(^|//)[^/]*@", r"\1", each) for each in url.split(","))


def _userinfo(url: str) -> tuple[str, str]:
    authority = url.rpartition("://")[2].partition("/")[0]
    user, _, password = authority.rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)
