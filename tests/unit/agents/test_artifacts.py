"""Which files an attempt may leave, and what becomes of those that it may not."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from fleetlog.agents.artifacts import ArtifactStore, open_inside
from fleetlog.agents.frames import ArtifactNamed
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.objects import MemoryObjects, ref_of
from fleetlog.bus.system import SystemClock
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.objects import ARTIFACT_MAX_BYTES, ARTIFACTS_MAX, Artifact, ObjectRef
from tests.unit.agents.test_payloads import AWAY_S, Moving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a secret beside it."""
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (work / "a.txt").write_text("a")
    (work / "deep" / "b.txt").write_text("b")
    (tmp_path / "secret").write_text("hush")
    return work


def read(folder: Path, path: str) -> str:
    with open_inside(str(folder), path) as file:
        return file.read().decode()


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "deep/../a.txt", "deep//..//a.txt"])
def test_a_file_inside_is_opened(folder: Path, path: str) -> None:
    assert read(folder, path) == "a"
    assert read(folder, str(folder / path)) == "a"


def test_links_that_stay_inside_are_followed(folder: Path) -> None:
    (folder / "link").symlink_to("deep")
    (folder / "file").symlink_to(folder / "link" / "b.txt")
    assert read(folder, "link/b.txt") == "b"
    assert read(folder, "file") == "b"
    (folder.parent / "way").symlink_to(folder)
    assert read(folder.parent / "way", "deep/b.txt") == "b"


@pytest.mark.parametrize(
    "path", ["../secret", "deep/../../secret", "link", "up/secret", "/etc/hostname", ".", "", "x\0"]
)
def test_what_is_outside_is_refused(folder: Path, path: str) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    with pytest.raises(InvalidInput):
        read(folder, path)


def test_what_is_no_plain_file_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for path in ("pipe", "deep"):
        with pytest.raises(InvalidInput, match="not a plain file"):
            read(folder, path)


def test_a_file_that_is_too_large_is_refused(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(ARTIFACT_MAX_BYTES + 1)
    with pytest.raises(InvalidInput, match=f"at most {ARTIFACT_MAX_BYTES}"):
        read(folder, "large")


def named(
    folder: Path, path: str, name: str | None = None, kind: str | None = None
) -> ArtifactNamed:
    return ArtifactNamed(1, str(folder), path, name, kind)


async def test_of_one_name_the_last_counts_and_names_give_the_kind(folder: Path) -> None:
    objects = MemoryObjects()
    (folder / "b.html").write_text("<p>")
    stored, troubles = await ArtifactStore(objects, SystemClock()).store(
        [
            named(folder, "a.txt", "x"),
            named(folder, "deep/b.txt"),
            named(folder, "b.html"),
            named(folder, "b.html", kind="text/x-mine", name="m"),
            named(folder, "deep/b.txt", "x"),
        ]
    )
    b, html = ref_of(b"b"), ref_of(b"<p>")
    assert stored == (
        Artifact(name="x", sha256=b.sha256, size=1),
        Artifact(name="b.txt", sha256=b.sha256, size=1, media_type="text/plain"),
        Artifact(name="b.html", sha256=html.sha256, size=3, media_type="text/html"),
        Artifact(name="m", sha256=html.sha256, size=3, media_type="text/x-mine"),
    )
    assert troubles == []
    assert await objects.get(stored[0].ref) == b"b"


@pytest.mark.parametrize(
    ("path", "name", "why"),
    [
        ("nowhere", None, "No such file"),
        ("../secret", None, "not a file inside"),
        ("a.txt", "", "printable"),
        ("a.txt", "a\nb", "printable"),
        ("a.txt", "n" * 257, "printable"),
    ],
)
async def test_a_file_that_cannot_be_kept_is_told_and_the_others_are_kept(
    folder: Path, path: str, name: str | None, why: str
) -> None:
    store = ArtifactStore(MemoryObjects(), SystemClock())
    stored, [trouble] = await store.store([named(folder, path, name), named(folder, "deep/b.txt")])
    assert [each.name for each in stored] == ["b.txt"]
    assert why in trouble


async def test_an_attempt_may_not_leave_too_many(folder: Path) -> None:
    store = ArtifactStore(MemoryObjects(), SystemClock())
    wanted = [named(folder, "a.txt", f"n{number}") for number in range(ARTIFACTS_MAX + 2)]
    stored, troubles = await store.store(wanted)
    assert len(stored) == ARTIFACTS_MAX
    assert len(troubles) == 2


class Away(MemoryObjects):
    """A store that does not answer the first times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def put(self, data: bytes | io.BufferedIOBase) -> ObjectRef:
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("not now")
        return await super().put(data)


async def test_a_store_that_is_away_is_waited_for_but_not_for_ever(folder: Path) -> None:
    wanted = [named(folder, "a.txt"), named(folder, "deep/b.txt")]
    stored, troubles = await ArtifactStore(Away(5), Moving()).store(wanted)
    assert (len(stored), troubles) == (2, [])
    clock = Moving()
    stored, troubles = await ArtifactStore(Away(10**9), clock).store(wanted)
    assert (stored, len(troubles)) == ((), 2)
    assert clock.passed_s == AWAY_S
