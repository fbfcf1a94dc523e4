"""A task's artifacts, listed and fetched."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from fleetlog.bus.client import Client
from fleetlog.bus.errors import Refused
from fleetlog.bus.outcomes import LeftArtifact
from fleetlog.cli.failures import say
from fleetlog.cli.rendering import one_line, write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.errors import InvalidInput


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which artifacts, and what to do with them."""

    task_id: str
    """Whose."""
    name: str | None
    """To fetch this one; None lists them."""
    attempt: int | None
    """Of this attempt only."""
    out: Path | None
    """Where to write what is fetched; None for stdout."""
    is_json: bool
    """For programs."""


async def tell_artifacts(client: Client, wanted: Wanted) -> None:
    """Lists the artifacts of a task, or fetches one of them: of several with its name the newest."""
    if wanted.out is not None and wanted.name is None:
        raise InvalidInput("--out goes with the name of an artifact: give both, or neither")
    history = await client.get(wanted.task_id)
    left = [each for each in history.artifacts if wanted.attempt in (None, each.attempt)]
    if wanted.name is None:
        _list(left, is_json=wanted.is_json)
        return
    found = next((each for each in reversed(left) if each.artifact.name == wanted.name), None)
    if found is None:
        names = ", ".join(dict.fromkeys(one_line(each.artifact.name) for each in left))
        raise Refused(
            f"task {wanted.task_id} has no artifact {wanted.name!r}"
            f"{f'; it has {names}' if names else ', nor any other'}"
        )
    await _fetch(client, found, wanted)


def _list(left: list[LeftArtifact], *, is_json: bool) -> None:
    if is_json:
        write_json([_fields(each) for each in left])
    elif left:
        names = ("attempt", "name", "size", "media_type", "sha256")
        rows = [[_fields(each)[name] for name in names] for each in left]
        write_table(names, rows)
    else:
        say("no artifacts: its attempts that have ended left none")


async def _fetch(client: Client, left: LeftArtifact, wanted: Wanted) -> None:
    if wanted.out is not None:
        await _write_file(client, left, wanted.out)
    elif not wanted.is_json:
        async for piece in client.fleet.objects.read(left.artifact.ref):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    if wanted.is_json:
        write_json(_fields(left) | {"out": wanted.out})


async def _write_file(client: Client, left: LeftArtifact, out: Path) -> None:
    with _replacing(out) as file:
        async for piece in client.fleet.objects.read(left.artifact.ref):
            file.write(piece)
    say(f"{out}: {left.artifact.size} bytes, {left.artifact.media_type}")


@contextmanager
def _replacing(out: Path) -> Iterator[BinaryIO]:
    """A file beside `out` that takes its place when all is written, so that `out` is never there in part."""
    beside = out.parent / f".{out.name}.{os.getpid()}"
    try:
        with beside.open("xb") as file:
            yield file
        beside.replace(out)
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _fields(left: LeftArtifact) -> dict[str, object]:
    return {"attempt": left.attempt, **msgspec.structs.asdict(left.artifact)}
