"""What attempts printed, printed again: stdout to stdout, everything else to stderr."""

from __future__ import annotations

import sys

from fleetlog.bus.background import background
from fleetlog.bus.client import Client
from fleetlog.schemas.beats import OutputChunk


async def write_output(
    client: Client, task_id: str, *, attempt: int | None = None
) -> frozenset[str]:
    """Writes what the log's side stream holds of a task; answers the kinds of output there were."""
    kinds = set()
    async for _, chunk in client.fleet.outputs.read(task_id, attempt=attempt):
        write_chunk(chunk)
        kinds.add(chunk.stream)
    flush()
    return frozenset(kinds)


def write_chunk(chunk: OutputChunk) -> None:
    """Writes one piece to the stream that it came from."""
    match chunk.stream:
        case "stdout":
            sys.stdout.write(chunk.text)
        case "progress":
            done = "" if chunk.pct is None else f"{chunk.pct:.0f} % "
            sys.stderr.write(f"[{done}{chunk.text}]\n")
        case _:
            sys.stderr.write(chunk.text)


def flush() -> None:
    """Lets a reader see what was written so far."""
    sys.stdout.flush()
    sys.stderr.flush()


async def follow_output(client: Client, task_id: str, *, attempt: int | None = None) -> None:
    """Writes output as it comes, until the task has its outcome and all of its output is written."""
    written = 0

    async def keep_writing() -> None:
        nonlocal written
        async for _, chunk in client.fleet.outputs.read(task_id, attempt=attempt, follow=True):
            write_chunk(chunk)
            written += 1
            flush()

    async with background(keep_writing()):
        await client.result(task_id, is_fetched=False)
    # What was on its way when the outcome came is in the stream by now, behind what was written already.
    seen = 0
    async for _, chunk in client.fleet.outputs.read(task_id, attempt=attempt):
        seen += 1
        if seen > written:
            write_chunk(chunk)
    flush()
