"""systemd's and launchd's files, checked by what reads them."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleetlog.cli.agent_pool import DRAIN_DEFAULT
from fleetlog.cli.role import MARGIN_S
from fleetlog.cli.up import AGENT_DRAIN_S
from fleetlog.schemas.durations import parse_duration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
BIN = Path(sys.executable).parent
NEEDED_S = max(AGENT_DRAIN_S, parse_duration(DRAIN_DEFAULT, "drain") / 1000) + MARGIN_S


def test_there_are_units() -> None:
    assert [unit.name for unit in UNITS] == [
        "fleetlog-agent@.service",
        "fleetlog-nats.service",
        "fleetlog.service",
        "fleetlog@.service",
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_to_say(unit: Path, tmp_path: Path) -> None:
    """It reads programs' paths too, so they are this installation's."""
    text = unit.read_text()
    for where in ("%h/.local/bin/", "/opt/fleetlog/bin/"):
        text = text.replace(f"={where}", f"={BIN}/")
    copy = tmp_path / unit.name
    copy.write_text(text)
    manager = ["--user"] if "WantedBy=default.target" in text else []
    checked = subprocess.run(
        ["systemd-analyze", *manager, "verify", "--man=no", copy],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_comes_back_and_may_take_its_time_to_end(unit: Path) -> None:
    service = section(unit, "Service")
    assert service["Restart"] == "always"
    assert section(unit, "Unit")["StartLimitIntervalSec"] == "0"
    if "nats" not in unit.name:
        assert service["KillMode"] == "mixed"
    if unit.name in ("fleetlog.service", "fleetlog-agent@.service"):
        assert float(service["TimeoutStopSec"]) > NEEDED_S


def test_launchd_s_file_is_a_property_list_that_says_what_it_must() -> None:
    file = DEPLOY / "launchd" / "local.fleetlog.plist"
    found = plistlib.loads(file.read_bytes())
    assert f"{found['Label']}.plist" == file.name
    program, *arguments = found["ProgramArguments"]
    assert program.startswith("/")
    assert arguments == ["up"]
    assert found["KeepAlive"] is True
    assert found["RunAtLoad"] is True
    assert found["ExitTimeOut"] > NEEDED_S
    assert found["ProcessType"] == "Standard"
    assert file.read_text().count(">/Users/YOU") == 4


def section(unit: Path, name: str) -> dict[str, str]:
    class Parser(configparser.RawConfigParser):
        def optionxform(self, optionstr: str) -> str:
            return optionstr

    parser = Parser(strict=False)
    parser.read(unit)
    return dict(parser[name])
