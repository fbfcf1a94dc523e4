"""The query behind `fleetlog task list`."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from fleetlog.bus.core import Status
from fleetlog.cli.asking import literal
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

STATES: Final = tuple(state for state in get_args(Status) if state != "absent")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks to list; what is empty or None leaves nothing out."""

    states: tuple[str, ...] = ()
    """In one of these."""
    queue: str | None = None
    """Of this queue."""
    handler: str | None = None
    """Of this handler."""
    labels: dict[str, str] = {}
    """With all of these."""
    needs_input: bool = False
    """Only those that wait for an answer."""
    limit: int = 50
    """At most so many."""


def list_sql(wanted: Wanted) -> str:
    """The statement; newest first.

    Raises:
        InvalidInput: a state is none, or the queue can't be one.
    """
    conditions = ["true"]
    if wanted.states:
        states = ", ".join(literal(_check_state(state)) for state in wanted.states)
        conditions.append(f"state IN ({states})")
    if wanted.queue is not None:
        conditions.append(f"queue = {literal(check_id(wanted.queue, 'queue'))}")
    if wanted.handler is not None:
        conditions.append(f"handler = {literal(wanted.handler)}")
    conditions += [
        f"labels[{literal(name)}] = {literal(value)}" for name, value in wanted.labels.items()
    ]
    columns = (
        "task_id, state, handler, queue, priority, attempts, submitted_at, started_at, settled_at,"
        " error_class, error, labels"
    )
    if wanted.needs_input:
        conditions.append("question IS NOT NULL")
        columns = "task_id, handler, queue, asked_at, question, choices, labels"
    return "\n".join(
        (
            f"SELECT {columns}",
            "FROM tasks",
            f"WHERE {' AND '.join(conditions)}",
            f"ORDER BY submitted_at DESC NULLS LAST, task_id DESC LIMIT {wanted.limit}",
        )
    )


def _check_state(state: str) -> str:
    if state not in STATES:
        raise InvalidInput(f"state {state!r} is not one of {', '.join(STATES)}")
    return state
