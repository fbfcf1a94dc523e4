"""The server's folder and configuration file.

<data>/up.lock         held by the process that runs the server
<data>/server.lock     held by the server itself
<data>/runtime.json    how to reach it, while it runs
<data>/server/         store.json (ours, and its port), auth, nats.conf, nats.pid, server.log, store/
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fleetlog.bus.embedded.files import write_private
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import Durability
from fleetlog.bus.system import Entropy

USER: Final = "fleetlog"
LOOPBACK: Final = "127.0.0.1"


class Folder(msgspec.Struct, frozen=True):
    """The paths below one data folder."""

    data: Path
    """The data folder."""

    @property
    def server(self) -> Path:
        """All that is the server's."""
        return self.data / "server"

    @property
    def store(self) -> Path:
        """JetStream's files."""
        return self.server / "store"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.server / "nats.conf"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.server / "server.log"

    @property
    def lock(self) -> Path:
        """Held by the server, through whoever keeps it or on its own."""
        return self.data / "server.lock"

    @property
    def pid(self) -> Path:
        """The server's process id."""
        return self.server / "nats.pid"


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Says that a store is fleetlog's own, and remembers what shall not change between starts."""

    format: int = 1
    """Of this file and the folder around it."""
    fleet: str
    """The fleet whose data folder this is."""
    port: int
    """For clients; kept, so that they find the server again."""
    http_port: int
    """For monitoring."""


def read_marker(folder: Folder, fleet: str) -> Marker | None:
    """The marker of this folder; None if there is none and the folder is free to be used.

    Raises:
        ConfigError: the folder holds a store that fleetlog did not make, or another fleet's, or one that a
            clustered server has had.
    """
    if (folder.store / "jetstream/$SYS/_js_/_meta_").exists():
        # Such a server deletes streams that its cluster does not know; what is left is not a laptop's.
        raise ConfigError(
            f"{folder.store} was used by a clustered nats-server: restore a backup into a new"
            " folder with --data"
        )
    try:
        found = (folder.server / "store.json").read_bytes()
    except FileNotFoundError:
        for store in (folder.store, folder.data / "jetstream"):
            if store.exists():
                raise ConfigError(
                    f"{store} is the store of another nats-server: it stays untouched,"
                    " name another folder with --data"
                ) from None
        return None
    except OSError as error:
        raise ConfigError(
            f"the data folder {folder.data} can't be read: {error.strerror}"
        ) from error
    try:
        marker = msgspec.json.decode(found, type=Marker)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{folder.server}/store.json is not fleetlog's ({error}): name another folder"
        ) from error
    if marker.format != 1:
        raise ConfigError(f"{folder.data} was made by a newer fleetlog: upgrade to use it")
    if marker.fleet != fleet:
        raise ConfigError(
            f"{folder.data} is the folder of fleet {marker.fleet!r}, not {fleet!r}: name another one"
            " with --data"
        )
    return marker


def write_marker(folder: Folder, marker: Marker) -> None:
    """Stores the marker; before the server makes its store."""
    write_private(folder.server / "store.json", msgspec.json.encode(marker))


def read_password(folder: Folder, entropy: Entropy) -> str:
    """The server's password: made once per folder out of 32 random bytes, so that clients outlive restarts.

    Raises:
        ConfigError: its file can't be read or written.
    """
    path = folder.server / "auth"
    try:
        password = path.read_text().strip()
    except FileNotFoundError:
        password = ""
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror})") from error
    if not password:
        password = entropy.bytes(32).hex()
        write_private(path, password.encode())
    return password


def write_config(
    folder: Folder, *, marker: Marker, name: str, password: str, durability: Durability
) -> None:
    """Writes the configuration file for the next start."""
    sync_interval = "always" if durability == "always" else "1s"
    # One setting a line: `store_dir: "x" sync_interval: always` on one line is a parse error.
    lines = [
        f"server_name: {_quote(name)}",
        f"listen: {_quote(f'{LOOPBACK}:{marker.port}')}",
        f"http: {_quote(f'{LOOPBACK}:{marker.http_port}')}",
        f"pid_file: {_quote(str(folder.pid))}",
        f"log_file: {_quote(str(folder.log))}",
        "logfile_size_limit: 10MB",
        "logfile_max_num: 3",
        "max_payload: 1MB",
        # Subjects are a task's own: a cache of who listens to which would be filled for nothing.
        "disable_sublist_cache: true",
        "authorization {",
        f"  user: {_quote(USER)}",
        f"  password: {_quote(password)}",
        "}",
        "jetstream {",
        f"  store_dir: {_quote(str(folder.store))}",
        f"  sync_interval: {_quote(sync_interval)}",
        "}",
    ]
    write_private(folder.config, ("\n".join(lines) + "\n").encode())


def _quote(text: str) -> str:
    # A JSON string is a string of the server's configuration language, whatever the path contains.
    return msgspec.json.encode(text).decode()
