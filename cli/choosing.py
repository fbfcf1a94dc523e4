"""Choosing many tasks: by what the projection knows of them, or by the log itself where none answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from fleetlog.bus.client import Client
from fleetlog.bus.core import Task, evolve
from fleetlog.bus.errors import ProjectionError, TaskNotFound, Unavailable
from fleetlog.bus.log import EventLog
from fleetlog.cli.asking import ask_rows, literal
from fleetlog.cli.failures import say
from fleetlog.cli.inputs import labels_of
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskFailed
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import guard, tasks

UNSETTLED: Final = ("held", "queued", "claimed", "waiting")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks; what is empty or None leaves nothing out."""

    states: tuple[str, ...] = UNSETTLED
    """In one of these."""
    queue: str | None = None
    """Of this queue."""
    handler: str | None = None
    """Of this handler."""
    labels: dict[str, str] = {}
    """With all of these."""
    older_than_ms: int | None = None
    """Submitted longer ago."""
    error_class: str | None = None
    """Failed with this class."""
    error: str | None = None
    """Failed with an error that holds this text."""
    tree_of: tuple[str, ...] = ()
    """These tasks, and everything they caused."""


class Chosen(msgspec.Struct, frozen=True):
    """A task that was chosen, as it was known then; the log decides what it really is."""

    task_id: str
    state: str
    handler: str | None
    queue: str | None


def read_choice(
    *,
    states: Sequence[str] | None = None,
    queue: str | None = None,
    handler: str | None = None,
    label: Sequence[str] | None = None,
    older_than: str | None = None,
    tree_of: Sequence[str] = (),
) -> Choice | None:
    """What the options say; None when they say nothing.

    Raises:
        InvalidInput: a state, queue, label or duration is none.
    """
    for state in states or ():
        if state not in UNSETTLED:
            raise InvalidInput(
                f"state {state!r} is not one of {', '.join(UNSETTLED)}: only these can be cancelled"
            )
    if not (states or queue or handler or label or older_than or tree_of):
        return None
    return Choice(
        states=tuple(states or UNSETTLED),
        queue=check_id(queue, "queue") if queue is not None else None,
        handler=handler,
        labels=labels_of(label),
        older_than_ms=parse_duration(older_than, "older-than") if older_than is not None else None,
        tree_of=tuple(check_id(task_id, "task id") for task_id in tree_of),
    )


def chosen_of(task: Task) -> Chosen:
    """A task that was read from the log."""
    spec = task.spec
    return Chosen(
        task.id, task.status, spec.handler if spec else None, spec.queue if spec else None
    )


async def choose(client: Client, choice: Choice) -> list[Chosen]:
    """The tasks that fit, the oldest first, as of the log's end.

    Raises:
        TaskNotFound: the root of a tree is no task.
    """
    log = client.fleet.log
    for task_id in choice.tree_of:
        if await log.last(guard(log.fleet, "task", task_id)) is None:
            raise TaskNotFound(
                f"there is no task {task_id}; `fleetlog task list` shows what there is"
            )
    before = None
    if choice.older_than_ms is not None:
        before = log.now() - timedelta(milliseconds=choice.older_than_ms)
    try:
        _, rows = await ask_rows(client.fleet.services, choice_sql(choice, before), is_fresh=True)
    except (Unavailable, ProjectionError) as error:
        say(f"the log itself is read, as the projector can't be asked ({error})")
        return await choose_from_log(log, choice, before)
    return [Chosen(**row) for row in rows]


def choice_sql(choice: Choice, before: datetime | None) -> str:
    """The statement behind a choice."""
    return "\n".join(
        (
            tree_sql(choice.tree_of),
            "SELECT task_id, state, handler, queue FROM tasks",
            f"WHERE {conditions_sql(choice, before)}",
            "ORDER BY submitted_at NULLS FIRST, task_id",
        )
    ).strip()


def tree_sql(roots: Sequence[str]) -> str:
    """The table `tree` of these tasks and all that they caused; nothing without any."""
    if not roots:
        return ""
    ids = ", ".join(literal(task_id) for task_id in roots)
    # UNION, not UNION ALL: a parent_id is the submitter's word, and may go round in a circle.
    return (
        f"WITH RECURSIVE tree AS (SELECT task_id FROM tasks WHERE task_id IN ({ids})"  # noqa: S608
        " UNION SELECT t.task_id FROM tasks AS t JOIN tree ON t.parent_id = tree.task_id)"
    )


def conditions_sql(choice: Choice, before: datetime | None) -> str:
    """What stands behind WHERE."""
    states = ", ".join(literal(state) for state in choice.states)
    conditions = [f"state IN ({states})"]
    for column, value in (
        ("queue", choice.queue),
        ("handler", choice.handler),
        ("error_class", choice.error_class),
    ):
        if value is not None:
            conditions.append(f"{column} = {literal(value)}")
    conditions += [
        f"labels[{literal(name)}] = {literal(value)}" for name, value in choice.labels.items()
    ]
    if before is not None:
        conditions.append(f"submitted_at < TIMESTAMPTZ {literal(before.isoformat())}")
    if choice.error is not None:
        conditions.append(f"contains(error, {literal(choice.error)})")
    if choice.tree_of:
        conditions.append("task_id IN (SELECT task_id FROM tree)")
    if "failed" in choice.states:
        conditions.append(NOT_REVIVED)
    return " AND ".join(conditions)


NOT_REVIVED: Final = (
    "task_id NOT IN (SELECT cause FROM events WHERE type IN ('task.queued', 'task.held')"
    " AND cause IS NOT NULL)"
)
"""A revived task is the cause of the one that was made of it."""


async def choose_from_log(log: EventLog, choice: Choice, before: datetime | None) -> list[Chosen]:
    """Like `choose`, by a fold of the whole log."""
    known: dict[str, Task] = {}
    parents: dict[str, str] = {}
    causes: set[str] = set()
    async for page in log.read(subjects=tasks(log.fleet)):
        for record in map(open_stored, page):
            if record.subject is None:
                continue
            task_id = record.subject.id
            task = known[task_id] = evolve(known.get(task_id, Task(id=task_id)), record)
            if task.spec is not None and task.spec.parent_id is not None:
                parents[task_id] = task.spec.parent_id
            if (cause := getattr(record.event, "cause", None)) is not None:
                causes.add(cause)
            if task.is_settled and task.status not in choice.states:
                del known[task_id]
    is_wanted = _wanted(choice, before, _family(choice.tree_of, parents), causes)
    return [chosen_of(task) for task in known.values() if is_wanted(task)]


def _family(roots: Sequence[str], parents: dict[str, str]) -> set[str]:
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found: set[str] = set()
    left = list(roots)
    while left:
        if (task_id := left.pop()) not in found:
            found.add(task_id)
            left += children.get(task_id, ())
    return found


def _wanted(
    choice: Choice, before: datetime | None, family: set[str], causes: set[str]
) -> Callable[[Task], bool]:
    """The twin of `conditions_sql`."""

    def is_wanted(task: Task) -> bool:
        spec, outcome = task.spec, task.outcome
        if spec is None or task.status not in choice.states:
            return False
        failed = outcome if isinstance(outcome, TaskFailed) else None
        pairs: tuple[tuple[Any, Any], ...] = (
            (choice.queue, spec.queue),
            (choice.handler, spec.handler),
            (choice.error_class, failed and failed.error_class),
            *((value, spec.labels.get(name)) for name, value in choice.labels.items()),
        )
        return (
            all(wish is None or wish == found for wish, found in pairs)
            and (before is None or (task.submitted_at is not None and task.submitted_at < before))
            and (choice.error is None or (failed is not None and choice.error in failed.error))
            and (not choice.tree_of or task.id in family)
            and (failed is None or task.id not in causes)
        )

    return is_wanted
