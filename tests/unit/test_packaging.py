"""The folders at the root, the links of editable installs and the wheel's table say the same."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import fleetlog

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_links_wheel_table_and_folders_agree() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    table = wheel["force-include"]
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    links = {path.name: path for path in (ROOT / "src" / "fleetlog").iterdir() if path.is_symlink()}
    assert table == {folder: f"fleetlog/{folder}" for folder in folders}
    assert set(links) == folders
    assert all(link.resolve() == ROOT / name for name, link in links.items())


def test_coverage_counts_every_folder() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(PROJECT["tool"]["coverage"]["run"]["source"]) == {*folders, "src"}


def test_the_public_face_is_small_complete_and_real() -> None:
    assert len(fleetlog.__all__) <= 20
    assert fleetlog.__all__ == sorted(fleetlog.__all__)
    for name in fleetlog.__all__:
        assert getattr(fleetlog, name).__doc__
    assert set(fleetlog.__all__) <= set(dir(fleetlog))
    assert fleetlog.__version__ == PROJECT["project"]["version"]


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, fleetlog; print([m for m in ('nats', 'duckdb', 'typer') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(fleetlog, "Nothing")


def test_the_lock_names_no_registry_and_hashes_everything() -> None:
    lock = (ROOT / "requirements-dev.txt").read_text()
    assert "://" not in lock
    pins = [line for line in lock.splitlines() if "==" in line and not line.startswith(" ")]
    assert len(pins) > 30
    assert lock.count("--hash=sha256:") >= len(pins)
