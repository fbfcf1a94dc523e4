"""What the documents name is there: tests, files, links, commands, variables, targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetlog.bus.settings import ENVIRONMENT
from fleetlog.cli.main import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "examples/README.md",
        "tests/golden/README.md",
    ),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
COMMANDS = {name for section in SECTIONS.values() for name in section}

every_document = pytest.mark.parametrize("name", DOCUMENTS)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def code_in(name: str) -> Iterator[str]:
    """Every span of code, and every line of every block of shell commands."""
    text = text_of(name)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`([^`]+)`", without_blocks)


def slug(heading: str) -> str:
    """A heading's anchor, as it is made on the usual code hosts."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@every_document
def test_every_test_that_is_named_exists(name: str) -> None:
    for path, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", text_of(name)):
        source = (ROOT / path).read_text()
        assert re.search(rf"def {test}\(", source), f"{path} has no {test}"


@every_document
def test_every_file_that_is_named_exists(name: str) -> None:
    folders = "schemas|bus|agents|projections|cli|tests|examples|deploy|docs|src"
    for code in code_in(name):
        for path in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", code):
            assert (ROOT / path).exists(), f"{name} names {path}"


@every_document
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(name)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{name} links to {target}"


@every_document
def test_every_command_that_is_named_exists(name: str) -> None:
    for code in code_in(name):
        words = (
            shlex.split(code.replace("'", ""), comments=True)
            if code.startswith("fleetlog ")
            else []
        )
        if len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]):
            assert words[1] in COMMANDS, f"{name} names `{code}`"


@every_document
def test_every_target_that_is_named_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    for code in code_in(name):
        if found := re.match(r"make ([a-z]+)", code):
            assert found[1] in targets, f"{name} names `make {found[1]}`"


def test_the_readme_names_every_variable_that_a_person_may_set() -> None:
    named = set(re.findall(r"^\| `(FLEETLOG_\w+)`", text_of("README.md"), re.MULTILINE))
    assert named == set(ENVIRONMENT.values()) - {ENVIRONMENT["lifeline_fd"]}


def test_every_promise_that_holds_names_its_tests() -> None:
    table = re.findall(r"^\| ([a-z -]+) \| (.+) \| (.*)\|$", text_of("README.md"), re.MULTILINE)
    proofs = {row: proof for row, promise, proof in table if not promise.startswith("coming: ")}
    rows = (
        "submit",
        "claim",
        "outcome",
        "fan-out",
        "barrier",
        "execution",
        "projection",
        "power loss",
    )
    for row in rows:
        assert proofs[row].startswith("`tests/"), row


def test_the_readmes_example_is_short() -> None:
    block, *_ = re.findall(r"^```python\n(.*?)^```", text_of("README.md"), re.DOTALL | re.MULTILINE)
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 12
