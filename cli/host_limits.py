"""The options that say what an agent leaves free on its host, and what its workers may use."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from fleetlog.agents.strains import Floors
from fleetlog.cli.grouping import Group
from fleetlog.schemas.errors import InvalidInput

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)


class HostLimits(Group, frozen=True, kw_only=True):
    """What stays free on the host, and what a worker may use of it."""

    disk_floor: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="With less free on the disk of --data it takes nothing new.",
            show_default="256M, or a twentieth of the disk where that is less",
        ),
    ] = None
    memory_floor: Annotated[
        str, typer.Option(metavar="SIZE", help="With less memory free it takes nothing new.")
    ] = "128M"
    files_floor: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="With fewer file handles left it takes nothing new."),
    ] = Floors().files
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What each worker may use with all that it started, such as 2G: one that uses more is ended,"
            " and what runs in it has crashed.",
        ),
    ] = None

    def floors(self) -> Floors:
        """What stays free; 0 looks at none of it.

        Raises:
            InvalidInput: a size is none.
        """
        disk = self.disk_floor
        return Floors(
            disk_bytes=None if disk is None else size_of(disk, "disk-floor"),
            memory_bytes=size_of(self.memory_floor, "memory-floor"),
            files=self.files_floor,
        )

    def memory_max_bytes(self) -> int | None:
        """What a worker may use; None: all there is.

        Raises:
            InvalidInput: it is no size, or nothing.
        """
        if self.memory_limit is None:
            return None
        if (size := size_of(self.memory_limit, "memory-limit")) == 0:
            raise InvalidInput("--memory-limit 0 lets no worker live: leave it out for no limit")
        return size


def size_of(text: str, what: str) -> int:
    """Bytes, from such as 512M, 1.5 GiB or 0; units are powers of 1024.

    Raises:
        InvalidInput: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"--{what} {text!r} is not a size, such as 512M or 2G")
    return int(float(match[1]) * _UNITS[match[2].upper()])
