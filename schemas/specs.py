"""What a task is: handler, arguments and the rules for running it. Checked here, before anything is written."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.schemas.budgets import Budget, check_budget
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import KEY_LENGTH_MAX, check_id, key_id, key_token
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES, ObjectRef
from fleetlog.schemas.requirements import REQUIREMENTS_MAX, offer_queue
from fleetlog.schemas.subjects import Priority

ATTEMPTS_DEFAULT: Final = 3
TIMEOUT_DEFAULT_MS: Final = 3_600_000
AFFINITY_DEFAULT_MS: Final = 30_000

DurationMs = Annotated[int, Meta(ge=0, le=DURATION_MAX_MS)]
PositiveMs = Annotated[int, Meta(ge=1, le=DURATION_MAX_MS)]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]

LimitKey = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)]
Requirements = Annotated[dict[Label, Label], Meta(max_length=REQUIREMENTS_MAX)]

RepoName = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^(/[^\x00]*|[^/\x00]+)$")]

NO_ARGS: Final = msgspec.Raw(b"{}")


JSON_DEPTH_MAX: Final = 100
"""Arguments and results nest no deeper: how deep a reader gets depends on how much stack it has left."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The wait after a failed attempt: `first_ms` doubling up to `max_ms`, of which a random part counts."""

    first_ms: DurationMs = 1_000
    """The longest wait after the first failure."""
    max_ms: DurationMs = 300_000
    """No wait is longer than this."""


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One unit of work. Durations are milliseconds; what is None has no limit."""

    handler: Name
    """The name of a Python handler; for commands, what to call them in lists."""
    args: msgspec.Raw = NO_ARGS
    """A JSON object: keyword arguments of a handler, or an executor's own fields (`argv`)."""
    executor: Name = "python"
    """How an attempt runs: `python`, `command`."""
    queue: str = "default"
    """The queue it is offered on."""
    priority: Priority = "normal"
    """`high` before `normal` before `low`."""
    key: Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)] | None = None
    """The caller's idempotency key; the task id is made from it."""
    labels: dict[Label, str] = {}
    """Free names and values for people and SQL."""
    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = ATTEMPTS_DEFAULT
    """How many attempts may fail before the task has failed."""
    backoff: Backoff = Backoff()
    """The wait between failed attempts."""
    timeout_ms: PositiveMs | None = TIMEOUT_DEFAULT_MS
    """From claimed to the end of the attempt."""
    start_within_ms: PositiveMs | None = None
    """From queued to claimed; after it the task has expired."""
    silence_ms: PositiveMs | None = None
    """The longest time without output or heartbeat of a running attempt."""
    expires_ms: PositiveMs | None = None
    """From submitted to settled; no attempt starts after it."""
    delay_ms: DurationMs = 0
    """From submitted to queued."""
    parent_id: str | None = None
    """The task that caused this one."""
    args_ref: ObjectRef | None = None
    """Where the arguments are when they are too large for an event; `args` is empty then. Set by the client."""
    barrier_id: str | None = None
    """The barrier whose fan-out made this one its member."""
    continues: str | None = None
    """The barrier whose continuation this is: held until that is released."""
    after: tuple[str, ...] = ()
    """Tasks that must have completed before; if one ends otherwise, this one fails."""
    repo: RepoName | None = None
    """The repository that attempts get worktrees of, by its path on the agent's host or the name of its folder;
    None: the agent's only one, if it has one."""
    requires: Requirements = {}
    """Labels that an agent must have to run it, with exactly these values."""
    affinity: Name | None = None
    """Tasks with the same key run on one host, if they can: held until a coordinator has looked which."""
    affinity_ms: PositiveMs = AFFINITY_DEFAULT_MS
    """How long it is offered to that host alone; then any agent may run it."""
    limits: tuple[LimitKey, ...] = ()
    """An attempt starts only while each of these limits of the fleet has room."""
    budgets: tuple[LimitKey, ...] = ()
    """What it uses counts on each of these, and so does what its children use: they inherit them."""
    budget: Budget | None = None
    """What it may use together with all that it leads to; the budget's key is the task's id."""
    fair_key: LimitKey | None = None
    """Tasks of one queue with such keys are queued in turns, a key after the other."""
    schedule: str | None = None
    """The schedule that fired it; its id is then made of that name and the instant."""

    @property
    def needs_admission(self) -> bool:
        """Whether each of its attempts has to be let in by the coordinator."""
        return bool(self.limits or self.budgets or self.budget or self.fair_key is not None)

    @property
    def is_rationed(self) -> bool:
        """Whether few of its kind are on offer at once: others have their turn, or it may have to be held."""
        return self.fair_key is not None or bool(self.budgets or self.budget)

    def budget_keys(self, task_id: str) -> tuple[str, ...]:
        """The budgets that what it uses counts on."""
        return self.budgets if self.budget is None else (*self.budgets, task_id)

    @property
    def waits_for_tasks(self) -> bool:
        """Whether it is held until other tasks have settled."""
        return self.continues is not None or bool(self.after)

    @property
    def offered_on(self) -> str:
        """The queue in the subjects of its events: `queue`, or the one derived from it for what it requires."""
        return offer_queue(self.queue, self.requires)

    def on_host(self, host: str | None) -> TaskSpec:
        """As it is offered to agents of one host alone: that is one more label that they must have."""
        if host is None:
            return self
        return msgspec.structs.replace(self, requires={**self.requires, "host": host})


def under_budgets(spec: TaskSpec, keys: Iterable[str]) -> TaskSpec:
    """The task with the budgets of the one that leads to it."""
    budgets = tuple(dict.fromkeys((*keys, *spec.budgets)))
    return spec if budgets == spec.budgets else msgspec.structs.replace(spec, budgets=budgets)


AFTER_MAX: Final = 1000
"""More tasks to wait for are a fan-out's."""
LIMITS_MAX: Final = 16
"""A task names no more limits, and no more budgets."""

_Container = dict[str, object] | list[object]

_PLACE: Final = re.compile(r"(.*) - at `\$\.?(.+)`")
_spec_decoder: Final = msgspec.json.Decoder(TaskSpec)


def check_spec(spec: TaskSpec) -> TaskSpec:
    """Returns `spec` if every field is allowed and its arguments are one JSON object.

    Raises:
        InvalidInput: names the field.
    """
    _check_ids(spec)
    _check_gates(spec)
    if spec.repo is not None and spec.executor == "python":
        raise InvalidInput("repo is for commands: a Python handler does not run in a worktree")
    if not isinstance(spec.args, msgspec.Raw):
        raise InvalidInput("args must be a msgspec.Raw of one JSON object")
    if spec.args_ref is not None:
        raise InvalidInput("args_ref is the client's to set: give the arguments themselves as args")
    if (size := len(memoryview(spec.args))) > PAYLOAD_MAX_BYTES:
        raise InvalidInput(
            f"the arguments have {size} bytes, at most {PAYLOAD_MAX_BYTES} are allowed:"
            " put them into a file or a store, and give its name"
        )
    arguments = read_json(spec.args, "arguments")
    try:
        reread = _spec_decoder.decode(msgspec.json.encode(spec))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise InvalidInput(f"the task cannot be accepted: {_field_first(str(error))}") from error
    if not isinstance(arguments, dict):
        raise InvalidInput(
            f"the arguments must be one JSON object of names and values, not {type(arguments).__name__}"
        )
    # Raw arguments lose the white space around them; everything else must come back as it was.
    changed = [
        name
        for name in spec.__struct_fields__
        if name != "args" and getattr(spec, name) != getattr(reread, name)
    ]
    if changed:
        raise InvalidInput(
            f"the task cannot be accepted: wrong type of value in {', '.join(changed)}"
        )
    return spec


def _check_ids(spec: TaskSpec) -> None:
    check_id(spec.queue, "queue")
    if isinstance(spec.key, str):
        key_id(spec.key)
    if spec.parent_id is not None:
        check_id(spec.parent_id, "parent id")
    if spec.schedule is not None:
        check_id(spec.schedule, "schedule")
    for barrier_id in (spec.barrier_id, spec.continues):
        if barrier_id is not None:
            check_id(barrier_id, "barrier id")
    for task_id in spec.after:
        check_id(task_id, "task id")
    if len(spec.after) > AFTER_MAX:
        raise InvalidInput(
            f"a task waits for at most {AFTER_MAX} others, not {len(spec.after)}: use a fan-out"
        )


def _check_gates(spec: TaskSpec) -> None:
    for keys, what in ((spec.limits, "limits"), (spec.budgets, "budgets")):
        if len(set(keys)) < len(keys):
            raise InvalidInput(f"one of the {what} is named twice: name each once")
        if len(keys) > LIMITS_MAX:
            raise InvalidInput(f"a task has at most {LIMITS_MAX} {what}, not {len(keys)}")
    for key in (*spec.limits, *spec.budgets, spec.fair_key):
        if isinstance(key, str):
            key_token(key)
    if spec.budget is not None:
        check_budget(spec.budget)


def read_json(raw: msgspec.Raw | bytes, what: str) -> object:
    """The value of a JSON document that every reader of the log will be able to read.

    Raises:
        InvalidInput: it is not JSON in UTF-8, or nested deeper than `JSON_DEPTH_MAX`.
    """
    data = bytes(raw)
    try:
        data.decode()
        value = msgspec.json.decode(data)
    except RecursionError as error:
        raise InvalidInput(_too_deep(what)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the {what} must be valid JSON: {error}") from error
    # Counting brackets first: almost no value has so many, and walking a value costs more than reading it.
    may_be_deep = data.count(b"[") + data.count(b"{") > JSON_DEPTH_MAX
    if may_be_deep and _is_deeper_than(JSON_DEPTH_MAX, value):
        raise InvalidInput(_too_deep(what))
    return value


def payload_digest(spec: TaskSpec) -> str:
    """22 characters that are the same for the same work: executor, handler, arguments and repository.

    Queue, priority, labels and time-outs are left out: who submits the same key again with another priority
    means the same task. The order of keys and white space in the arguments do not count.
    """
    arguments = msgspec.json.encode(msgspec.json.decode(spec.args), order="deterministic")
    identity = f"{spec.executor}\0{spec.handler}\0".encode() + arguments
    if spec.repo is not None:
        # JSON has no zero bytes, so that no arguments look like this.
        identity += f"\0{spec.repo}".encode()
    return urlsafe_b64encode(hashlib.sha256(identity).digest()[:16]).decode().rstrip("=")


def _field_first(problem: str) -> str:
    """What is wrong in words that begin with where, as `handler: Expected …`."""
    found = _PLACE.fullmatch(problem)
    return problem if found is None else f"{found[2]}: {found[1]}"


def _is_deeper_than(depth_max: int, value: object) -> bool:
    level: list[_Container] = [[value]]
    for _ in range(depth_max + 1):
        level = [child for parent in level for child in _nested(parent)]
    return bool(level)


def _nested(container: _Container) -> list[_Container]:
    children = container.values() if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, dict | list)]


def _too_deep(what: str) -> str:
    return f"the {what} must not nest deeper than {JSON_DEPTH_MAX} levels"
