"""What an agent's host is short of: measured every few seconds, so that the agent rests until there is more."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from fleetlog.bus.system import Clock
from fleetlog.schemas.events import Strain

RELIEF: Final = 1.1
"""So much above the floor it must be again: what wavers around the floor would be told each time."""
_DISK_FLOOR: Final = 256 * 1024 * 1024
_MEMORY_TOLD: Final = Path("/proc/meminfo")
_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")
_OWN_FILES: Final = Path("/proc/self/fd")


class Floors(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent leaves free on its host; 0 for whatever there is."""

    disk_bytes: int | None = None
    """On the disk of its folder; None: 256 MiB, or a twentieth of the disk where that is less."""
    memory_bytes: int = 128 * 1024 * 1024
    """Of the machine's memory, or of its control group's if that has less."""
    files: int = 64
    """Of the file handles that the agent may open."""
    look_s: float = 2.0
    """How often it looks."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk, in bytes."""

    size: int
    free: int
    """For this user."""


class Gauges(Protocol):
    """Looks at the machine; what can't be known is None."""

    def disk(self) -> Disk | None:
        """The disk of the agent's folder."""
        ...

    def memory(self) -> int | None:
        """Bytes that programs could get without swapping."""
        ...

    def files(self) -> int | None:
        """File handles that this process could still open."""
        ...


class HostGauges:
    """This machine's. Memory and handles are known where there is a `/proc`.

    Args:
        folder: on the disk to look at; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def disk(self) -> Disk | None:
        """See `Gauges`."""
        for folder in (self._folder, *self._folder.parents):
            try:
                usage = shutil.disk_usage(folder)
            except OSError:
                continue
            return Disk(size=usage.total, free=usage.free)
        return None

    def memory(self) -> int | None:
        """See `Gauges`."""
        known = [each for each in (_machine_memory(), _group_memory()) if each is not None]
        return min(known, default=None)

    def files(self) -> int | None:
        """See `Gauges`."""
        try:
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - sum(
                1 for _ in _OWN_FILES.iterdir()
            )
        except OSError:
            return None


class StrainWatch:
    """Says when something becomes short, when what is short changes, and when nothing is any more.

    Args:
        gauges: the machine.
        floors: what shall be left free.
        clock: for the pauses.
        changed: gets all that is short; nothing when all is well again.
        folder: named in what is said of the disk.
    """

    def __init__(
        self,
        gauges: Gauges,
        floors: Floors,
        clock: Clock,
        *,
        changed: Callable[[tuple[Strain, ...]], None],
        folder: Path,
    ) -> None:
        self._gauges = gauges
        self._floors = floors
        self._clock = clock
        self._changed = changed
        self._folder = folder
        self._strains: tuple[Strain, ...] = ()

    def look(self) -> None:
        """Measures once."""
        before: set[str] = {strain.resource for strain in self._strains}
        now = tuple(strain for strain in self._measure() if _is_short(strain, before))
        if {strain.resource for strain in now} != before:
            self._strains = now
            self._changed(now)

    async def run(self) -> None:
        """Measures every few seconds, for ever."""
        while True:
            await self._clock.sleep(self._floors.look_s)
            self.look()

    def _measure(self) -> list[Strain]:
        gauges, floors = self._gauges, self._floors
        found: list[Strain] = []
        if floors.disk_bytes != 0 and (disk := gauges.disk()) is not None:
            floor, where = _disk_floor(floors, disk), str(self._folder)
            found.append(Strain(resource="disk", left=disk.free, floor=floor, where=where))
        if floors.memory_bytes and (left := gauges.memory()) is not None:
            found.append(Strain(resource="memory", left=left, floor=floors.memory_bytes))
        if floors.files and (left := gauges.files()) is not None:
            found.append(Strain(resource="files", left=left, floor=floors.files))
        return found


def group_memory(folder: Path) -> int | None:
    """What is left of a control group's limit; what its files hold in memory can be given back."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return limit - used + int(held.get("inactive_file", 0))
    except (OSError, ValueError):
        return None  # no limit ("max"), or none that is known


def strains_text(strains: Sequence[Strain]) -> str:
    """What is short, and by how much, for people."""
    return ", ".join(_text(strain) for strain in strains)


def bytes_text(count: int) -> str:
    """A number of bytes with a unit."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.4g} {units[0]}"


def _text(strain: Strain) -> str:
    if strain.resource == "files":
        return f"file handles ({strain.left} left, wanted {strain.floor})"
    where = f" on the disk of {strain.where}" if strain.where else ""
    sizes = f"{bytes_text(strain.left)} free{where}, wanted {bytes_text(strain.floor)}"
    return f"{strain.resource} ({sizes})"


def _disk_floor(floors: Floors, disk: Disk) -> int:
    if floors.disk_bytes is not None:
        return floors.disk_bytes
    return min(_DISK_FLOOR, disk.size // 20)


def _is_short(strain: Strain, before: set[str]) -> bool:
    floor = strain.floor * RELIEF if strain.resource in before else strain.floor
    return strain.left < floor


def _machine_memory() -> int | None:
    try:
        for line in _MEMORY_TOLD.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_memory() -> int | None:
    """What is left in this process's control group, or in one above it that has less."""
    try:
        # Version 2: one line, "0::/path". Source: cgroups(7)
        own = _OWN_GROUP.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    folders = (_GROUPS / own, *(_GROUPS / own).parents)
    known = [group_memory(each) for each in folders if each.is_relative_to(_GROUPS)]
    return min((each for each in known if each is not None), default=None)
