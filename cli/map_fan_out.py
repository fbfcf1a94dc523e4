"""A map as one fan-out: all items named at once, and what follows when they have settled."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any, Final

import msgspec

from fleetlog.bus.background import background
from fleetlog.bus.client import Client
from fleetlog.bus.errors import FleetlogError, TaskNotFound
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.handles import FannedOut
from fleetlog.bus.many import each_of
from fleetlog.bus.outcomes import Outcome
from fleetlog.bus.settings import Settings
from fleetlog.bus.task_set import TaskSet
from fleetlog.cli.failures import REFUSED, TIMED_OUT, say
from fleetlog.cli.items import Shape
from fleetlog.cli.joining import Joining
from fleetlog.cli.lines import Line, is_rereadable, lines_of_file, lines_that_come
from fleetlog.cli.outcomes import outcome_fields
from fleetlog.cli.rendering import json_text, one_line, printable, shortened, write_json
from fleetlog.cli.requirements import note_missing
from fleetlog.cli.submitting import ANSWER_TIMEOUT_S
from fleetlog.cli.tally import LABEL, Tally
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import MEMBERS_MAX
from fleetlog.schemas.specs import TaskSpec

FAILURES_SHOWN: Final = 10
_ERROR_WIDTH: Final = 300
_FINAL: Final = ("completed", "failed", "cancelled", "expired")


class WantedFanOut(msgspec.Struct, frozen=True, kw_only=True):
    """One map that is a fan-out, as it was asked for."""

    shape: Shape
    """How an item becomes a task."""
    joining: Joining
    """What follows."""
    path: str
    """Where the items are; `-` for stdin."""
    is_waiting: bool
    """Wait for the end."""
    wait_timeout_s: float | None
    """No longer than this."""
    is_json: bool
    """For programs."""
    is_checked: bool
    """Refuse what no handler of the fleet would take."""


class Item(msgspec.Struct, frozen=True):
    """A task to be, and the line that it is from."""

    line: Line
    spec: TaskSpec


def read_file(wanted: WantedFanOut) -> list[Item] | None:
    """Reads and checks all items of a file, and the whole; None for stdin and pipes.

    Raises:
        InvalidInput: names the file, the line and the place in it, or says what is wrong with the whole.
    """
    if not is_rereadable(wanted.path):
        return None
    items: list[Item] = []
    for line in lines_of_file(wanted.path):
        _add(items, line, wanted.shape)
    wanted.joining.fan_out([item.spec for item in items]).plan("b")
    return items


async def fan_out_and_tell(
    settings: Settings, wanted: WantedFanOut, items: list[Item] | None
) -> int:
    """Submits all items as one, waits if wanted, and prints; answers the exit code.

    Args:
        settings: which fleet.
        wanted: the map.
        items: what `read_file` has read.

    Raises:
        InvalidInput: an item or the whole is not allowed; nothing was written.
    """
    async with Client.connect(settings=settings) as client:
        map_id = client.fleet.system.new_id()
        if items is None:
            items = await _read(wanted)
        if wanted.is_checked:
            await _check(client, wanted, items)
        fanned_out = await client.fan_out(
            _labelled_fan_out(wanted.joining, items, map_id), timeout_s=ANSWER_TIMEOUT_S
        )
        if wanted.is_checked and client.handlers.is_empty:
            say("no agent has run in this fleet yet; the tasks wait")
        await note_missing(client.fleet, wanted.shape.template)
        if not wanted.is_waiting:
            _tell_submitted(fanned_out, map_id, is_json=wanted.is_json)
            return 0
        return await _wait_and_tell(client, fanned_out, wanted, map_id)


async def _read(wanted: WantedFanOut) -> list[Item]:
    items: list[Item] = []
    async for line in lines_that_come(wanted.path):
        _add(items, line, wanted.shape)
    return items


def _add(items: list[Item], line: Line, shape: Shape) -> None:
    if len(items) == MEMBERS_MAX:
        raise InvalidInput(
            f"{line.place}: one fan-out has at most {MEMBERS_MAX} items; nothing was submitted"
        )
    items.append(Item(line, shape.task_of(line)))


async def _check(client: Client, wanted: WantedFanOut, items: list[Item]) -> None:
    for item in items:
        try:
            await client.check(item.spec)
        except (FleetlogError, InvalidInput) as error:
            raise type(error)(f"{item.line.place}: {error}") from error
    if wanted.joining.then is not None:
        await client.check(wanted.joining.then)


def _labelled_fan_out(joining: Joining, items: list[Item], map_id: str) -> FanOut:
    if joining.then is not None:
        joining = msgspec.structs.replace(joining, then=_labelled(joining.then, map_id))
    return joining.fan_out([_labelled(item.spec, map_id) for item in items])


def _tell_submitted(fanned_out: FannedOut, map_id: str, *, is_json: bool) -> None:
    if is_json:
        write_json(
            {
                "barrier_id": fanned_out.barrier_id,
                "map_id": map_id,
                "submitted": len(fanned_out.task_ids),
                "duplicates": 0,
                "task_ids": fanned_out.task_ids,
                "continuation_id": fanned_out.continuation_id,
            }
        )
        return
    sys.stdout.write("".join(f"{task_id}\n" for task_id in fanned_out.task_ids))
    sys.stdout.flush()
    say(_describe(fanned_out))


def _describe(fanned_out: FannedOut) -> str:
    then = fanned_out.continuation_id
    count = len(fanned_out.task_ids)
    follows = f", then task {then} follows" if then is not None else ""
    return (
        f"barrier {fanned_out.barrier_id} waits for {count} {'task' if count == 1 else 'tasks'}{follows}:"
        f" see it with `fleetlog barrier show {fanned_out.barrier_id}`"
    )


async def _wait_and_tell(
    client: Client, fanned_out: FannedOut, wanted: WantedFanOut, map_id: str
) -> int:
    end: Outcome | None = None
    try:
        end = await _wait(client, fanned_out, wanted, map_id)
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        say(_describe(fanned_out))
        raise
    children = await _outcomes_of(client, fanned_out.task_ids)
    if wanted.is_json:
        await _write_json(client, fanned_out, children, end)
    else:
        _tell_end(fanned_out, children, end)
    if end is None:
        say(f"it has not ended in time and goes on: {_describe(fanned_out)}")
        return TIMED_OUT
    return 0 if end.is_completed else REFUSED


async def _wait(
    client: Client, fanned_out: FannedOut, wanted: WantedFanOut, map_id: str
) -> Outcome:
    if not sys.stderr.isatty():
        return await fanned_out.result(wanted.wait_timeout_s)
    from fleetlog.cli.map_progress import MapProgress  # noqa: PLC0415 - rich, only where someone looks on

    then = fanned_out.continuation_id
    total = len(fanned_out.task_ids) + (then is not None)
    tasks = TaskSet(client.fleet, (LABEL, map_id), lambda _outcome: None)
    template = wanted.shape.template
    # The continuation requires nothing, and so is in another queue than tasks that do.
    queue = "*" if template.requires else template.queue
    follow = tasks.follow(after=fanned_out.seq, queue=queue)
    with MapProgress(Tally(map_id, total, submitted=total), tasks):
        async with background(follow):
            return await fanned_out.result(wanted.wait_timeout_s)


async def _outcomes_of(client: Client, task_ids: list[str]) -> list[Outcome]:
    async def outcome_of(task_id: str) -> Outcome:
        try:
            if (outcome := await client.outcome(task_id)) is not None:
                return outcome
            task = (await client.get(task_id)).task
        except TaskNotFound:
            return Outcome(task_id=task_id, state="absent")
        # A member that fanned out has completed, and is open until its continuation has its outcome.
        state = "open" if task.is_settled else task.status
        return Outcome(task_id=task_id, state=state, attempts=task.attempts)

    return [outcome async for _, outcome in each_of(task_ids, outcome_of)]


async def _write_json(
    client: Client, fanned_out: FannedOut, children: list[Outcome], end: Outcome | None
) -> None:
    continuation: dict[str, Any] | None = None
    if (then := fanned_out.continuation_id) is not None:
        [outcome] = [end] if end is not None else await _outcomes_of(client, [then])
        continuation = outcome_fields(msgspec.structs.replace(outcome, task_id=then))
    settled = [child for child in children if child.state in _FINAL]
    succeeded = sum(child.is_completed for child in settled)
    write_json(
        {
            "barrier_id": fanned_out.barrier_id,
            "state": end.state if end is not None else "running",
            "succeeded": succeeded,
            "failed": len(settled) - succeeded,
            "children": [outcome_fields(child) for child in children],
            "continuation": continuation,
        }
    )


def _tell_end(fanned_out: FannedOut, children: list[Outcome], end: Outcome | None) -> None:
    if fanned_out.continuation_id is None:
        for child in children:
            sys.stdout.write(json_text(child.result) + "\n")
    elif end is not None and end.is_completed:
        result = end.result
        sys.stdout.write((result if isinstance(result, str) else json_text(result)) + "\n")
    sys.stdout.flush()
    failures = [(n, one) for n, one in enumerate(children, 1) if one.state in _FINAL[1:]]
    for number, child in failures[:FAILURES_SHOWN]:
        why = shortened(one_line(child.error or "no reason given"), _ERROR_WIDTH)
        say(f"item {number}, task {child.task_id}: {child.state}: {why}")
    if len(failures) > FAILURES_SHOWN:
        say("more of them are not shown")
    counts = Counter(child.state for child in children)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    say(f"{len(children)} items: {counted}" if children else "there were no items")
    if end is not None and not end.is_completed:
        what = fanned_out.continuation_id
        name = f"task {what}" if what is not None else f"barrier {fanned_out.barrier_id}"
        say(f"{name} {end.state}: {printable(end.error or 'no reason given')}")


def _labelled(spec: TaskSpec, map_id: str) -> TaskSpec:
    return msgspec.structs.replace(spec, labels={**spec.labels, LABEL: map_id})
