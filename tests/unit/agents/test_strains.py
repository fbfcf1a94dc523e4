"""What a host is short of, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetlog.agents.strains import Floors, HostGauges, bytes_text, group_memory, strains_text
from fleetlog.cli.host_limits import (
    DISK_FLOOR_DEFAULT,
    FILES_FLOOR_DEFAULT,
    MEMORY_FLOOR_DEFAULT,
    floors_of,
    size_of,
)
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import Strain


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
    said = floors_of(DISK_FLOOR_DEFAULT, MEMORY_FLOOR_DEFAULT, FILES_FLOOR_DEFAULT)
    assert said == Floors()


def test_this_machine_is_measured(tmp_path: Path) -> None:
    gauges = HostGauges(tmp_path / "not" / "there" / "yet")
    assert (gauges.disk() or 0) > 0
    if Path("/proc/meminfo").exists():
        assert (gauges.memory() or 0) > 0
        assert (gauges.files() or 0) > 0


def test_what_is_left_of_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 150\n")
    assert group_memory(tmp_path) == 250
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path) is None
    assert group_memory(tmp_path / "none") is None
