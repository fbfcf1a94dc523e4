"""The server's own check passes what deploy/ gives to people, with the settings that promises rest on."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.clusters import NATS

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.settings import Settings

SINGLE = {
    "NATS_NAME": '"one"',
    "NATS_LISTEN": '"127.0.0.1:4222"',
    "NATS_HTTP": '"127.0.0.1:8222"',
    "NATS_STORE": '"/var/lib/fleetlog-nats"',
    "NATS_PASSWORD": '"12345"',
}
CLUSTER = SINGLE | {
    "NATS_CLUSTER_LISTEN": '"127.0.0.1:6222"',
    "NATS_CLUSTER_PASSWORD": '"67890"',
    "NATS_ROUTES": json.dumps([f"nats://node:67890@10.0.0.{n}:6222" for n in (1, 2, 3)]),
}
BOTH = pytest.mark.parametrize(
    ("file", "said"), [("single.conf", SINGLE), ("cluster.conf", CLUSTER)]
)


def check(file: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    binary = asyncio.run(find_binary(Settings(data=Path("/nowhere"))))
    return subprocess.run(
        [binary, "-t", "-c", NATS / file],
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )


@BOTH
def test_the_server_takes_the_configuration(file: str, said: Mapping[str, str]) -> None:
    checked = check(file, said)
    assert checked.returncode == 0, checked.stdout


@BOTH
def test_each_variable_is_needed_and_explained(file: str, said: Mapping[str, str]) -> None:
    text = (NATS / file).read_text()
    assert set(re.findall(r": \$(\w+)$", text, re.MULTILINE)) == set(said)
    for variable in said:
        assert re.search(rf"^#   {variable}  ", text, re.MULTILINE), variable
        checked = check(file, {n: v for n, v in said.items() if n != variable})
        assert checked.returncode != 0
        assert variable in checked.stdout


@BOTH
def test_an_acknowledged_append_is_on_disk(file: str, said: Mapping[str, str]) -> None:
    assert re.search(r"^  sync_interval: always$", (NATS / file).read_text(), re.MULTILINE)


def test_a_password_without_its_quotes_is_refused_at_the_start() -> None:
    """The comment says so: the server would read a number."""
    assert (check("single.conf", SINGLE | {"NATS_PASSWORD": "12345"})).returncode != 0
