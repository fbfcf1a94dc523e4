"""The reference parser of AsyncAPI, which runs on node; installed on first use, into the venv."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

SOURCE = Path(__file__).parents[1] / "asyncapi"
"""What to install: `npm install --omit-lockfile-registry-resolved` there renews the lock file."""
INSTALL_TIMEOUT_S = 180


class ParserMissing(Exception):
    """The parser can't be had here; says why."""


class Finding(msgspec.Struct, frozen=True):
    """What the parser thinks of a document."""

    problems: list[dict[str, Any]]
    messages: list[str]


def parse(document: bytes) -> Finding:
    """Asks the parser.

    Raises:
        ParserMissing: node, npm or the packages are not there.
    """
    node = shutil.which("node")
    if node is None:
        raise ParserMissing("node is not installed")
    ended = subprocess.run(
        [node, _installed() / "check.mjs"],
        input=document,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return msgspec.json.decode(ended.stdout, type=Finding)


def _installed() -> Path:
    """The folder with the packages, which carries the digest of what it was made from."""
    files = sorted(SOURCE.iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(sys.prefix) / f"asyncapi-{digest}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=sys.prefix, prefix="asyncapi-") as scratch:
            made = Path(scratch) / "made"
            shutil.copytree(SOURCE, made)
            _install(made)
            try:
                made.rename(folder)
            except OSError:
                assert folder.is_dir()  # another run was faster
    return folder


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ParserMissing("npm is not installed")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ParserMissing("npm did not install the parser in time") from error
    if ended.returncode != 0:
        raise ParserMissing(f"npm cannot install the parser: {ended.stderr.decode()[-300:]}")
