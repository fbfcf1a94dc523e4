"""The image, what goes into it, and the containers made of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ROLES = ("agent", "coordinator", "projector")


def test_the_image_s_program_is_fleetlog_and_its_user_is_not_root() -> None:
    steps = instructions()
    assert json.loads(last(steps, "ENTRYPOINT")) == ["fleetlog"]
    json.loads(last(steps, "CMD"))
    assert last(steps, "USER") not in ("root", "0")
    assert f"--create-home {last(steps, 'USER')}" in last(steps, "RUN")
    assert [step for step, _ in steps][:2] == ["ARG", "FROM"]
    assert re.fullmatch(r"PYTHON=python:3\.\d+-slim", steps[0][1])


def test_the_image_gets_the_versions_that_were_tested() -> None:
    """The line that makes constraints of the lock finds every pin."""
    lock = (ROOT / "requirements-dev.txt").read_text()
    pattern = re.search(r"grep -oE '([^']+)'", (DEPLOY / "Dockerfile").read_text())
    assert pattern is not None
    pins = re.findall(pattern[1], lock, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^\S+==", lock, re.MULTILINE))
    assert any(pin.startswith("nats-py==2.") for pin in pins)


def test_the_build_sees_all_that_the_wheel_is_made_of_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    files = {"pyproject.toml", "requirements-dev.txt", "README.md", "LICENSE"}
    assert lines[1] == "*"
    assert let_in == folders | files | {"src"}


def test_every_container_runs_the_image_comes_back_and_is_looked_after() -> None:
    assert "version" not in COMPOSE
    assert set(COMPOSE["services"]) == {"nats", *ROLES}
    for service in COMPOSE["services"].values():
        assert service["image"] == "fleetlog"
        assert service["restart"] == "unless-stopped"
        assert service["init"] is True
        assert service["healthcheck"]["test"][0] == "CMD"
    for role in ROLES:
        words = COMPOSE["services"][role]["command"]
        port = words[words.index("--health") + 1]
        assert (
            f"http://127.0.0.1:{port}/readyz"
            in COMPOSE["services"][role]["healthcheck"]["test"][-1]
        )


def test_roles_wait_for_the_server_and_agents_may_drain() -> None:
    services = COMPOSE["services"]
    for role in ROLES:
        assert services[role]["depends_on"] == {"nats": {"condition": "service_healthy"}}
        assert services[role]["command"][0] == role
        assert "@nats:4222" in services[role]["environment"]["FLEETLOG_URL"]
    assert services["agent"]["stop_grace_period"] == "60s"


def test_the_server_is_reached_from_this_host_alone_and_its_variables_keep_their_quotes() -> None:
    server = COMPOSE["services"]["nats"]
    assert server["ports"] == ["127.0.0.1:4222:4222"]
    assert all(value.startswith('"') for value in server["environment"].values())
    wanted = re.findall(r": \$(\w+)$", (DEPLOY / "nats" / "single.conf").read_text(), re.MULTILINE)
    assert set(server["environment"]) == set(wanted)
    assert "./nats/single.conf:/etc/fleetlog/single.conf:ro" in server["volumes"]
    assert server["entrypoint"][-1] == "/etc/fleetlog/single.conf"


def test_every_volume_is_declared() -> None:
    used = {
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", ())
    }
    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_compose_itself_takes_the_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker client here")
    known = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("the docker client here has no compose")
    checked = subprocess.run(
        ["docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "FLEETLOG_PASSWORD": "p1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("script", ["ensure-venv", "smoke-run", "smoke-wheel", "with-docker"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["sh", "-n", DEPLOY / script], check=True)


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last(steps: list[tuple[str, str]], word: str) -> str:
    return [rest for step, rest in steps if step == word][-1]
