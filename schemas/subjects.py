"""The subject grammar of the log: one parser, one formatter, one guard builder.

    fleetlog.<fleet>.task.<task_id>.<queue>.<priority>.<verb>
    fleetlog.<fleet>.worker.<agent_id>.<worker_id>.<verb>
    fleetlog.<fleet>.<kind>.<id>.<verb>                       every other kind

The id stands right after the kind, so that a thing's guard has no wildcard before it: the server then
finds the last event of a thing without walking over queues.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

import msgspec

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import ID_LENGTH_MAX, check_id

ROOT: Final = "fleetlog"

Priority = Literal["high", "normal", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)

VERBS: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(verbs.split())
    for kind, verbs in {
        "task": "held queued claimed retried returned completed failed cancelled expired"
        " cancel_requested",
        "barrier": "opened released abandoned",
        "limit": "set admitted",
        "budget": "set admitted exhausted",
        "schedule": "set removed paused resumed",
        "queue": "paused resumed scaled derived",
        "credential": "paused resumed",
        "agent": "started draining strained recovered stopped lost",
        "worker": "spawned exited refused",
    }.items()
}


_TOKENS: Final = re.compile(
    rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}(\.[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}})*"
)


class Subject(msgspec.Struct, frozen=True):
    """A parsed subject. `queue` and `priority` belong to tasks, `worker_id` to workers."""

    fleet: str
    kind: str
    id: str
    """The thing's id: a task's, a barrier's, an agent's (for workers too)."""
    verb: str
    queue: str | None = None
    priority: Priority | None = None
    worker_id: str | None = None


def parse_subject(text: str) -> Subject:
    """Reads a subject of the log.

    Raises:
        InvalidInput: the text is not in the grammar above.
    """
    match text.split("."):
        case [root, fleet, "task", task_id, queue, priority, verb] if priority in PRIORITIES:
            subject = Subject(fleet, "task", task_id, verb, queue=queue, priority=priority)
        case [root, fleet, "worker", agent_id, worker_id, verb]:
            subject = Subject(fleet, "worker", agent_id, verb, worker_id=worker_id)
        case [root, fleet, kind, thing_id, verb] if kind not in ("task", "worker"):
            subject = Subject(fleet, kind, thing_id, verb)
        case _:
            raise InvalidInput(f"{text!r} is not a subject of the log")
    if (
        root != ROOT
        or subject.verb not in VERBS.get(subject.kind, ())
        or _TOKENS.fullmatch(text) is None
    ):
        raise InvalidInput(f"{text!r} is not a subject of the log")
    return subject


def format_subject(subject: Subject) -> str:
    """The text of a subject; `parse_subject` gives the same subject back."""
    head = f"{ROOT}.{subject.fleet}.{subject.kind}.{subject.id}"
    match subject.kind:
        case "task":
            return f"{head}.{subject.queue}.{subject.priority}.{subject.verb}"
        case "worker":
            return f"{head}.{subject.worker_id}.{subject.verb}"
        case _:
            return f"{head}.{subject.verb}"


def guard(fleet: str, kind: str, thing_id: str, worker_id: str | None = None) -> str:
    """The subject whose last sequence an append to this thing states.

    Every append to a thing must carry this very string: on a replicated stream two appends whose guards
    cover the same task but are written differently were both accepted.
    """
    if worker_id is not None:
        return f"{ROOT}.{fleet}.{kind}.{thing_id}.{worker_id}.>"
    return f"{ROOT}.{fleet}.{kind}.{thing_id}.>"


def guard_of(subject: Subject) -> str:
    """The guard of the thing that a subject speaks of."""
    return guard(subject.fleet, subject.kind, subject.id, subject.worker_id)


def everything(fleet: str) -> str:
    """The filter for a fleet's whole log; the subjects of its stream."""
    return f"{ROOT}.{fleet}.>"


def tasks(fleet: str, queue: str = "*", priority: str = "*", verb: str = "*") -> str:
    """The filter for task events; `verb="queued"` with queue and priority are a lane's offers."""
    return f"{ROOT}.{fleet}.task.*.{queue}.{priority}.{verb}"


def agents(fleet: str, verb: str = "*") -> str:
    """The filter for events of agents."""
    return f"{ROOT}.{fleet}.agent.*.{verb}"


def credentials(fleet: str) -> str:
    """The filter for events of credentials."""
    return f"{ROOT}.{fleet}.credential.>"


def schedules(fleet: str) -> str:
    """The filter for what is said of schedules; their tasks are tasks."""
    return f"{ROOT}.{fleet}.schedule.>"


def queues(fleet: str, verb: str = "*") -> str:
    """The filter for what is said of queues themselves."""
    return f"{ROOT}.{fleet}.queue.*.{verb}"


def bounds_set(fleet: str, kind: Literal["limit", "budget"], thing_id: str = "*") -> str:
    """The filter for settings of limits or budgets."""
    return f"{ROOT}.{fleet}.{kind}.{thing_id}.set"


def beats(fleet: str, agent_id: str = "*") -> str:
    """The subject of an agent's heartbeats, beside the log."""
    return f"{ROOT}-beats.{fleet}.{agent_id}"


def coordinator_beats(fleet: str) -> str:
    """The subject of the coordinators' heartbeats, on the same path as those of agents."""
    return beats(fleet, "coordinator")


def output(fleet: str, task_id: str = "*", attempt: int | str = "*") -> str:
    """The subject of an attempt's output, beside the log."""
    return f"{ROOT}-output.{fleet}.{task_id}.{attempt}"


def live(fleet: str, about: str = "*") -> str:
    """The subject of hints about a task, or for an agent. Core NATS, stored nowhere."""
    return f"{ROOT}-live.{fleet}.{about}"


def service(fleet: str, name: str) -> str:
    """The subject under which a role of the fleet answers requests."""
    return f"{ROOT}-service.{fleet}.{name}"


def object_bucket(fleet: str) -> str:
    """The bucket of a fleet's object store; no fleet's name makes another stream of it."""
    return stream_names(fleet)[0]


def object_stream(fleet: str) -> str:
    """The stream under that bucket."""
    return f"OBJ_{object_bucket(fleet)}"


def object_subjects(fleet: str) -> tuple[str, str]:
    """Where the bucket's chunks and descriptions go. Source: ADR-20 (JetStream based object stores)."""
    bucket = object_bucket(fleet)
    return f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"


def stream_names(fleet: str) -> tuple[str, str, str]:
    """The names of a fleet's streams: log, beats, output.

    Raises:
        InvalidInput: the fleet's name can't be a token, or its log would be another fleet's beats or output.
    """
    if fleet.endswith(("_BEATS", "_OUTPUT")):
        raise InvalidInput(
            f"fleet {fleet[:40]!r} is not valid: it must not end in _BEATS or _OUTPUT"
        )
    name = f"FLEETLOG_{check_id(fleet, 'fleet')}"
    return name, f"{name}_BEATS", f"{name}_OUTPUT"
