"""Looks at the server, its streams and the folder it lives in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.runtime import Target, attest_durability
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.jetstream.connection import Connection, check_version
from fleetlog.bus.jetstream.room import SUBMITS_SHARE, Usage, disk_of
from fleetlog.bus.jetstream.streams import find_missing
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import Clock
from fleetlog.cli.checks import Check, error, ok, size_text, warning

CLOCK_MAX_S: Final = 2.0
DISK_LOW_BYTES: Final = 1024**3
LOG_SHARE_LOW: Final = 0.75
SUBJECT_BYTES: Final = 300
"""What the server holds in memory for each subject, as measured."""
SUBJECTS_BYTES_MAX: Final = 1024**3


def check_server_version(connection: Connection) -> Check:
    """Whether fleetlog's promises hold on this release."""
    found = f"nats-server {connection.server_version}"
    try:
        check_version(connection)
    except ConfigError as refused:
        return error("version", found, str(refused))
    return ok("version", found)


async def check_streams(connection: Connection, fleet: str) -> Check:
    """Whether they are there, with the settings they need."""
    try:
        missing = await find_missing(connection, fleet)
    except ConfigError as refused:
        return error("streams", f"fleet {fleet!r} can't be used", str(refused))
    if missing:
        return warning(
            "streams",
            f"not there: {', '.join(missing)}",
            "check --fleet; if this fleet is to be new, its first command or agent makes them",
        )
    return ok("streams", "all there, with the settings they need")


async def check_durability(target: Target) -> Check:
    """What a loss of power would take."""
    match await attest_durability(target.http_url):
        case "always":
            return ok("durability", "always: what was acknowledged is on disk")
        case "relaxed":
            return warning(
                "durability",
                "relaxed: a loss of power takes up to a second of events",
                "start the server with `fleetlog up --durability always` if that is too much",
            )
        case _:
            return warning(
                "durability",
                "unattested: the server's monitoring address is not known here",
                "see that its configuration has `sync_interval: always`, or more than one replica",
            )


def check_clock(connection: Connection, clock: Clock) -> Check:
    """This machine's clock against the server's."""
    ahead_s = (clock.now() - connection.now()).total_seconds()
    side = "ahead of" if ahead_s > 0 else "behind"
    found = f"{abs(ahead_s):.3f} s {side} the server's"
    if abs(ahead_s) <= CLOCK_MAX_S:
        return ok("clock", found)
    return warning(
        "clock",
        found,
        "set this machine's clock, by NTP; delays and time-outs count by the server's, so that they are right",
    )


def check_log_size(usage: Usage) -> Check:
    """How much the log still takes."""
    used = size_text(usage.used_bytes)
    if usage.max_bytes is None:
        return ok("log size", f"{used}, no limit but the disk")
    found = f"{used} of at most {size_text(usage.max_bytes)}"
    advice = "raise the stream's limit with `nats stream edit --max-bytes`, or use another --fleet"
    if usage.is_full_for_submits:
        share = f"{SUBMITS_SHARE:.0%}"
        return error("log size", f"{found}: from {share} on no tasks are accepted", advice)
    if usage.used_bytes >= usage.max_bytes * LOG_SHARE_LOW:
        return warning("log size", found, advice)
    return ok("log size", found)


def check_subjects(usage: Usage) -> Check:
    """What the server needs to remember the subjects."""
    memory = usage.subject_count * SUBJECT_BYTES
    found = f"{usage.subject_count} subjects, about {size_text(memory)} of the server's memory"
    if memory < SUBJECTS_BYTES_MAX:
        return ok("subjects", found)
    return warning("subjects", found, "give the server more memory, or begin another --fleet")


def check_disk(settings: Settings) -> Check | None:
    """The disk under an embedded server; None for a server elsewhere."""
    folder = Folder(settings.data).store
    disk = disk_of(folder)
    if settings.url is not None or disk is None:
        return None
    found = f"{size_text(disk.free_bytes)} of {size_text(disk.total_bytes)} free on {folder}"
    advice = "make room, or move the data folder to a larger disk while the fleet is stopped"
    if disk.is_full_for_submits:
        return error("disk", f"{found}: no tasks are accepted", advice)
    if disk.free_bytes < DISK_LOW_BYTES:
        return warning("disk", found, advice)
    return ok("disk", found)


def check_folder(data: Path) -> Check | None:
    """Who may read the data folder; None if there is none here."""
    try:
        found = data.stat()
    except FileNotFoundError:
        return None
    except OSError as failed:
        return error("data folder", f"{data} can't be read: {failed.strerror}", "check its owner")
    mode = f"{data} has mode {stat.S_IMODE(found.st_mode):o}"
    if found.st_uid != os.getuid():
        return warning("data folder", f"{data} belongs to another user", "run as its owner")
    if found.st_mode & 0o077:
        advice = f"it holds the server's password: chmod 700 {data}"
        return warning("data folder", f"{mode}, so that others may read it", advice)
    return ok("data folder", mode)
