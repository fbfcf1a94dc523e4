"""deploy/README.md names files that are there, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEXT = (DEPLOY / "README.md").read_text()


def test_every_file_is_named_and_every_name_is_a_file() -> None:
    present = {
        str(path.relative_to(DEPLOY))
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    folders = "nats|systemd|launchd"
    named = set(re.findall(rf"(?:deploy/|`)((?:{folders})/[\w@.-]*\w|[\w.-]*\w)", TEXT))
    assert {name for name in present if name not in named} == set()
    assert {name for name in named if "/" in name} <= present


def test_its_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z -]", "", line[3:].lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
