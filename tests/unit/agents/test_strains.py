"""What a host is short of, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetlog.agents.strains import (
    Disk,
    Floors,
    HostGauges,
    StrainWatch,
    bytes_text,
    group_memory,
    strains_text,
)
from fleetlog.bus.system import SystemClock
from fleetlog.cli.host_limits import HostLimits, size_of
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import Strain

MIB = 1024 * 1024


def test_strains_say_what_where_and_how_much() -> None:
    disk = Strain(resource="disk", left=1536, floor=2 * 1024**3, where="/data")
    files = Strain(resource="files", left=3, floor=64)
    assert strains_text([disk, files]) == (
        "disk (1.5 KiB free on the disk of /data, wanted 2 GiB), file handles (3 left, wanted 64)"
    )


def test_bytes_have_units() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 300 * 1024**2, 9000 * 1024**4)] == [
        *("0 B", "1023 B", "1 KiB", "300 MiB", "8.789 PiB")
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("1k", 1024), ("1.5G", 3 * 2**29), ("2 GiB", 2**31), ("3MB", 3 * 2**20)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_of(text, "disk-floor") == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1Q", "1e3", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--disk-floor"):
        size_of(text, "disk-floor")


def test_the_options_defaults_are_the_agents() -> None:
    said = HostLimits().floors()
    assert said == Floors()


def test_this_machine_is_measured(tmp_path: Path) -> None:
    gauges = HostGauges(tmp_path / "not" / "there" / "yet")
    disk = gauges.disk()
    assert disk is not None
    assert 0 < disk.free <= disk.size
    if Path("/proc/meminfo").exists():
        assert (gauges.memory() or 0) > 0
        assert (gauges.files() or 0) > 0


class _Shown:
    """Gauges that know of a disk only."""

    def __init__(self, size: int, free: int) -> None:
        self._disk = Disk(size=size, free=free)

    def disk(self) -> Disk | None:
        return self._disk

    def memory(self) -> int | None:
        return None

    def files(self) -> int | None:
        return None


@pytest.mark.parametrize(
    ("floor", "size", "free", "short_of"),
    [
        (None, 1024 * MIB, 52 * MIB, None),
        (None, 1024 * MIB, 51 * MIB, 1024 * MIB // 20),
        (None, 10**15, 256 * MIB, None),
        (None, 10**15, 255 * MIB, 256 * MIB),
        (300 * MIB, 1024 * MIB, 299 * MIB, 300 * MIB),
        (0, 1024 * MIB, 0, None),
    ],
)
def test_what_is_left_on_a_disk_depends_on_its_size_unless_said(
    floor: int | None, size: int, free: int, short_of: int | None
) -> None:
    said: list[tuple[Strain, ...]] = []
    floors = Floors(disk_bytes=floor)
    gauges = _Shown(size, free)
    StrainWatch(gauges, floors, SystemClock(), changed=said.append, folder=Path("/d")).look()
    assert [strain.floor for strains in said for strain in strains] == (
        [] if short_of is None else [short_of]
    )


def test_what_is_left_of_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 150\n")
    assert group_memory(tmp_path) == 250
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path) is None
    assert group_memory(tmp_path / "none") is None
