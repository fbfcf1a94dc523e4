"""The server's ports: free ones at first, the same ones ever after."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Final

from fleetlog.bus.embedded.config import LOOPBACK, Folder, Marker, read_marker, write_marker
from fleetlog.bus.embedded.files import make_private_folder
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import Entropy

# Below the ports that systems give to outgoing connections: a client that tries to reconnect to a port from
# that range can be given the very same port as its own, connect to itself, and so keep the server out.
_PORTS: Final = range(14_000, 32_768)
_PORT_TRIES_MAX: Final = 50


def choose_ports(
    settings: Settings, folder: Folder, entropy: Entropy, notice: Callable[[str], None]
) -> Marker:
    """The ports for this start, kept in the folder's marker: the named one, else the last ones, else free ones.

    Raises:
        ConfigError: the named port is in use, or the folder is not this fleet's.
    """
    before = read_marker(folder, settings.fleet)
    port, http_port = settings.port, before.http_port if before else None
    if port is not None and not is_free(port):
        raise ConfigError(f"port {port} is in use: name another one with --port")
    if port is None and before is not None:
        port = before.port
        if not is_free(port):
            notice(f"port {port} is in use by another program, taking another one")
            port = None
    if port is None:
        port = free_port(entropy)
    if http_port is None or http_port == port or not is_free(http_port):
        http_port = free_port(entropy, but=port)
    marker = Marker(fleet=settings.fleet, port=port, http_port=http_port)
    if marker != before:
        make_private_folder(folder.server)
        write_marker(folder, marker)
    return marker


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface, at this instant."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(entropy: Entropy, *, but: int | None = None) -> int:
    """A port that nobody listens on, at this instant, other than `but`.

    Raises:
        ConfigError: none was found.
    """
    choice = random.Random(entropy.bytes(16))  # noqa: S311 - a port is no secret
    for _ in range(_PORT_TRIES_MAX):
        port = choice.choice(_PORTS)
        if port != but and is_free(port):
            return port
    raise ConfigError("no free port was found: name one with --port")
