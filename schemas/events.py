"""The events of the log: one frozen struct each, in one union tagged by `type`.

The ids of things stand in the subject, not in the payload, so that there is one truth about them. Fields are
only ever added, with defaults; a change of meaning raises `SCHEMA_VERSION` and adds an upcast.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.schemas.budgets import Action, Budget, Resource, Spent
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.objects import Artifact, ObjectRef
from fleetlog.schemas.questions import Answer, Question
from fleetlog.schemas.specs import LimitKey, PositiveMs, TaskSpec

SCHEMA_VERSION: Final = 1

Instant = Annotated[datetime, Meta(tz=True)]

ErrorClass = Literal[
    "error",  # the handler raised, or the command ended with a code that may be retried
    "permanent",  # the attempt said that trying again is useless
    "invalid_input",  # the arguments do not fit the handler
    "unknown_handler",  # no handler of that name where it ran
    "timeout",  # an attempt ran longer than `timeout_ms`
    "silence",  # an attempt gave no sign of life for `silence_ms`
    "expired",  # the attempt ended after the task's overall time
    "crash",  # its worker died, or the agent CLI that did its work
    "lost",  # its agent went away
    "drained",  # its agent was told to stop
    "needs_input",  # the attempt asked a person, and the task waits for the answer
    "deferred",  # the attempt asked for another time (exit code 75, `Retry` without blame)
    "unreadable_result",  # the outcome could not be recorded as it was
    "arguments_lost",  # stored arguments are missing or damaged
    "store_unavailable",  # stored arguments could not be fetched for now
    "worktree",  # its worktree could not be made or set up
    "transient",  # a service that the attempt needs was overloaded or out of order
    "throttled",  # its credential was asked too often
    "usage_limit",  # its credential's allowance is used up until a known time
    "auth",  # its credential is missing, wrong or has ended
    "billing",  # its credential's account has to be paid for
    "protocol",  # an agent CLI ended without saying how, or in a way that could not be read
    "startup",  # an agent CLI did not come up in time
    "dependency",  # what it waited for can no longer succeed
    "max_turns",  # an agent CLI took all the turns it was allowed; its session can be resumed
    "max_budget",  # an agent CLI spent all it was allowed; its session can be resumed
]


def _schema_version() -> int:
    # A factory, because omit_defaults leaves out plain defaults and the version must always be written.
    return SCHEMA_VERSION


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="event"
):
    """What every event carries."""

    id: str
    """Unique for one intent; a writer that got no answer finds its own event by it."""
    occurred_at: Instant
    """The writer's clock. Order and durations go by the log's own sequence and time."""
    v: int = msgspec.field(default_factory=_schema_version)
    """The schema version this event was written in."""
    cause: str | None = None
    """The id of what led to it: an event, a command or a task."""
    actor: str | None = None
    """Who acted, where a person or another program did."""
    reason: str | None = None
    """Why, in the actor's words."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt used."""

    input_tokens: int = 0
    """Tokens read, cached ones included."""
    output_tokens: int = 0
    """Tokens written."""
    cost_micro_usd: int = 0
    """Millionths of a US dollar."""
    model: str | None = None
    """The model that most of it went to."""


class WorktreeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the work of an attempt in a worktree stands."""

    repository: str
    """The repository's checkout on the attempt's host."""
    base: str
    """The commit it began from."""
    branch: str | None = None
    """The branch that holds all of its work; None without commits, and then no branch is left."""
    head: str | None = None
    """The last commit of it."""
    commits: int = 0
    """How many since the base."""
    files_changed: int = 0
    """Between base and head."""
    insertions: int = 0
    """Lines added between base and head."""
    deletions: int = 0
    """Lines removed between base and head."""
    kept: str | None = None
    """The worktree's folder, if it stays for a while."""
    note: str | None = None
    """What a person should know about it."""


class TaskHeld(Event, tag="task.held", frozen=True, kw_only=True):
    """A task waits for its gates and is in no queue: it was accepted, or its offer was taken back."""

    spec: TaskSpec
    """The whole task."""
    digest: str
    """`payload_digest` of the spec."""
    answers: tuple[Answer, ...] = ()
    """What it asked so far, and was answered."""


class TaskQueued(Event, tag="task.queued", frozen=True, kw_only=True):
    """The task is offered on its queue. Self-contained: an agent needs no earlier event to run it."""

    spec: TaskSpec
    """The whole task."""
    digest: str
    """`payload_digest` of the spec."""
    attempt: int = 1
    """The number that a claim of this offer gets."""
    failures: int = 0
    """Attempts that counted so far."""
    losses: int = 0
    """Attempts that ended with their agent so far."""
    submitted_at: Instant | None = None
    """When the log stored the task's first event; None when this is it."""
    session_id: str | None = None
    """The last session of an agent CLI that worked on it; a further attempt may go on with it."""
    answers: tuple[Answer, ...] = ()
    """What it asked so far, and was answered."""
    host: str | None = None
    """Only agents of this host are offered it, for the spec's `affinity_ms`; None: any that serve its queue."""


class TaskClaimed(Event, tag="task.claimed", frozen=True, kw_only=True):
    """A worker of an agent took the offer. The sequence of this event is the fence."""

    agent_id: str
    """The incarnation that holds the lease."""
    worker_id: str
    """The worker that runs the attempt."""
    host: str
    """Where it runs."""
    attempt: int
    """1 for the first claim."""
    offer: int
    """The sequence of the `queued` event that was taken."""
    ack: str | None = None
    """The ack subject of the delivery, so that others can end it."""
    over: int | None = None
    """The fence of the dead holder's claim that this one replaces."""


class AllowanceUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of one of a credential's allowances was used, as its service told."""

    credential: str
    """Its name within the fleet."""
    window: str
    """Which allowance, in the service's words, such as `five_hour`."""
    utilization: float
    """0 to 1, and above where the service allows more."""
    resets_at: Instant | None = None
    """When the allowance begins anew."""


class AttemptEnd(Event, tag="attempt.end", frozen=True, kw_only=True):
    """What the end of an attempt carries, outcome or not."""

    attempts: int
    """How many claims the task has had."""
    fence: int | None = None
    """The claim that ended; None when the task was not claimed."""
    ran_ms: int | None = None
    """From the start of the attempt to its end, on the worker's clock."""
    exit_code: int | None = None
    """Of the process, negative for a signal."""
    usage: Usage | None = None
    """Tokens and cost."""
    artifacts: tuple[Artifact, ...] = ()
    """The files that the attempt left in the object store, each by a name of its own."""
    session_id: str | None = None
    """The session of an agent CLI, by which it can be resumed."""
    worktree: WorktreeReport | None = None
    """Where its work stands, if it ran in a worktree of a repository."""
    allowances: tuple[AllowanceUse, ...] = ()
    """What was said last about each allowance of the attempt's credential."""


class TaskRetried(AttemptEnd, tag="task.retried", frozen=True, kw_only=True):
    """The attempt failed and counts; another follows after `delay_ms`."""

    error_class: str
    """One of `ErrorClass`; a newer writer may know more."""
    error: str
    """For people, at most 8 KiB."""
    delay_ms: int
    """Counted from the time the log stored this event."""


class TaskReturned(AttemptEnd, tag="task.returned", frozen=True, kw_only=True):
    """The attempt ended for a reason that is not the task's fault; it does not count."""

    error_class: str
    """`lost` counts against the bound on losses; `drained` and others do not."""
    error: str
    """For people."""
    delay_ms: int = 0
    """Counted from the time the log stored this event."""
    question: Question | None = None
    """With `needs_input`: what it asks. It waits for the answer, not for a time."""


class TaskCompleted(AttemptEnd, tag="task.completed", frozen=True, kw_only=True):
    """The outcome: success."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    """The JSON value that the attempt gave."""
    digest: str | None = None
    """The task's payload digest, so that a key stays taken after its history is trimmed."""
    result_ref: ObjectRef | None = None
    """Where the result is when it is too large for an event; `result` is null then."""
    fan_out: FanOutSpec | None = None
    """Instead of a result: the tasks that it leads to. The barrier has the task's id, and what waits for the
    task's outcome waits for the continuation's."""


class TaskFailed(AttemptEnd, tag="task.failed", frozen=True, kw_only=True):
    """The outcome: no further attempt. The dead letter."""

    error_class: str
    """The last attempt's."""
    error: str
    """The last attempt's, for people."""
    digest: str | None = None
    """See `TaskCompleted`."""


class TaskCancelled(AttemptEnd, tag="task.cancelled", frozen=True, kw_only=True):
    """The outcome: ended on request; nothing of it runs any more."""

    digest: str | None = None
    """See `TaskCompleted`."""


class TaskExpired(AttemptEnd, tag="task.expired", frozen=True, kw_only=True):
    """The outcome: it did not start in time."""

    limit: Literal["start_within", "expires"]
    """Which time ran out."""
    digest: str | None = None
    """See `TaskCompleted`."""


class TaskCancelRequested(Event, tag="task.cancel_requested", frozen=True, kw_only=True):
    """A running task shall end; its agent ends the processes, then the task is cancelled."""


class BarrierOpened(Event, tag="barrier.opened", frozen=True, kw_only=True):
    """Tasks that a barrier waits for, all named at once. One of a task's completion has no such event."""

    fan_out: FanOutSpec
    """Members, policy and continuation."""
    digest: str
    """`plan_digest` of it, so that a key stays taken."""
    parent_id: str | None = None
    """The task that waits for it and goes on itself."""


class BarrierReleased(Event, tag="barrier.released", frozen=True, kw_only=True):
    """The barrier's policy is met: its continuation is queued."""

    opened: int
    """The sequence of the event that holds the fan-out."""
    expected: int
    """How many members it has."""
    settled: int
    """How many have settled."""
    succeeded: int
    """How many have completed."""
    outcomes: tuple[int, ...] = ()
    """For each member in order, the sequence of the event that settled it; 0 if it is still open."""
    outcomes_ref: ObjectRef | None = None
    """Where these are when they are too many for an event: a JSON array."""


class BarrierAbandoned(Event, tag="barrier.abandoned", frozen=True, kw_only=True):
    """The barrier will not be released; its continuation ends unrun."""

    why: str
    """`policy`: that can't be met now; `cancelled`: someone ended it; `parent`: nobody waits for it."""
    error: str
    """For people, with the names of those that did not complete."""
    expected: int = 0
    """How many members it has."""
    settled: int = 0
    """How many have settled."""
    succeeded: int = 0
    """How many have completed."""


class AgentStarted(Event, tag="agent.started", frozen=True, kw_only=True):
    """An agent came up. Its id is this one incarnation and is never used again."""

    host: str
    """The host's name."""
    pid: int
    """Of the supervisor."""
    version: str
    """Of fleetlog."""
    queues: tuple[str, ...]
    """What it serves, its own `host-<name>` queue included."""
    workers: int
    """How many worker processes it keeps; the least, if it has a most."""
    concurrency: int
    """How many async handlers run at once in one worker."""
    labels: dict[str, str] = {}
    """What it offers, for matching."""
    handlers: dict[str, msgspec.Raw] = {}
    """The JSON Schema of each Python handler's arguments."""
    workers_max: int | None = None
    """The most worker processes it keeps when much waits; None: always `workers`."""
    reserve_high: int = 0
    """So many of the attempts that it runs at once are of tasks of priority high alone."""


class AgentDraining(Event, tag="agent.draining", frozen=True, kw_only=True):
    """The agent takes nothing new and finishes what it has."""


class AgentStopped(Event, tag="agent.stopped", frozen=True, kw_only=True):
    """The agent ended in order."""


class AgentLost(Event, tag="agent.lost", frozen=True, kw_only=True):
    """The coordinator heard nothing of the agent for too long."""

    silent_ms: int
    """How long, on the coordinator's clock."""


class Strain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that an agent's host has too little of."""

    resource: Literal["disk", "memory", "files"]
    """`files` are open file handles."""
    left: int
    """What is left of it: bytes, or a number of handles."""
    floor: int
    """What the agent was told to leave free."""
    where: str | None = None
    """Which disk, by a folder on it."""


class AgentStrained(Event, tag="agent.strained", frozen=True, kw_only=True):
    """The agent takes nothing new until its host has more of what is short; what it runs goes on."""

    strains: tuple[Strain, ...]
    """All that is short at this time; the next such event replaces them."""


class AgentRecovered(Event, tag="agent.recovered", frozen=True, kw_only=True):
    """Nothing is short any more: the agent takes tasks again."""


class WorkerSpawned(Event, tag="worker.spawned", frozen=True, kw_only=True):
    """An agent started a worker process."""

    host: str
    """The host's name."""
    pid: int
    """Of the worker."""


class WorkerExited(Event, tag="worker.exited", frozen=True, kw_only=True):
    """A worker process ended."""

    host: str
    """The host's name."""
    pid: int
    """Of the worker."""
    exit_code: int | None = None
    """None when a signal ended it."""
    signal: int | None = None
    """The signal that ended it."""


class WorkerRefused(Event, tag="worker.refused", frozen=True, kw_only=True):
    """A worker came with the result of a lease it no longer held; the result was not recorded."""

    task_id: str
    """Whose result."""
    attempt: int
    """Of which attempt."""
    fence: int
    """The claim that had been lost."""
    verb: str
    """What it would have been: `completed`, `retried`, …"""
    digest: str
    """SHA-256 of the refused event, so that a kept copy can be matched."""


class CredentialPaused(Event, tag="credential.paused", frozen=True, kw_only=True):
    """A credential can't be used for now: tasks that need it wait, and none of their attempts counts."""

    error_class: str
    """`throttled`, `usage_limit`, `auth`, `billing`; `paused` when a person did it."""
    error: str
    """What its service said, for people."""
    until: Instant | None = None
    """When it is tried again; None: when someone resumes it."""
    agent_id: str | None = None
    """Whose attempt found it out."""
    host: str | None = None
    """Where."""


class CredentialResumed(Event, tag="credential.resumed", frozen=True, kw_only=True):
    """A credential is used again, because its time has come or someone said so."""


class LimitSet(Event, tag="limit.set", frozen=True, kw_only=True):
    """What tasks under a key may do at once, or how often one may start. None: without a bound."""

    key: LimitKey
    """Which; one that ends in `:*` is for each key that begins like it and has no setting of its own."""
    concurrency: Annotated[int, Meta(ge=0)] | None = None
    """So many attempts at once, over the whole fleet; 0 holds all."""
    rate: Annotated[int, Meta(ge=1)] | None = None
    """So many starts in `per_ms`."""
    per_ms: PositiveMs = 1_000
    """Over which time."""
    burst: Annotated[int, Meta(ge=1)] | None = None
    """So many starts at once after a time without; None: `rate`."""


class LimitAdmitted(Event, tag="limit.admitted", frozen=True, kw_only=True):
    """Tasks were let in under a limit; their `queued` events stand beside it, stored at once with it."""

    key: LimitKey
    """Which limit."""
    tasks: tuple[str, ...]
    """Each takes one of its places until its attempt has ended."""


class BudgetSet(Event, tag="budget.set", frozen=True, kw_only=True):
    """What everything under a key may use."""

    key: LimitKey
    """Which; the id of a task for that of its tree."""
    budget: Budget
    """The amounts."""
    is_reset: bool = False
    """What was used before does not count any more."""


class BudgetExhausted(Event, tag="budget.exhausted", frozen=True, kw_only=True):
    """One of a budget's amounts is used up."""

    key: LimitKey
    """Which budget."""
    resource: Resource
    """Which of its amounts."""
    action: Action
    """What follows."""
    spent: Spent
    """What was used."""


class QueuePaused(Event, tag="queue.paused", frozen=True, kw_only=True):
    """Nobody takes tasks of the queue until it is resumed; what runs goes on, and it takes new tasks."""


class QueueResumed(Event, tag="queue.resumed", frozen=True, kw_only=True):
    """Tasks of the queue are taken again."""


class QueueDerived(Event, tag="queue.derived", frozen=True, kw_only=True):
    """A queue for tasks of another one that require something: its agents with these labels serve it."""

    queue: str
    """The queue that these tasks belong to."""
    requires: dict[str, str]
    """Labels that an agent must have, with exactly these values."""


class QueueScaled(Event, tag="queue.scaled", frozen=True, kw_only=True):
    """An agent keeps more workers from now on, or fewer; the queue is the one of which most waited last."""

    agent_id: str
    """Whose workers."""
    host: str
    """Where."""
    workers_before: int
    """How many it kept."""
    workers_after: int
    """How many it keeps now."""
    waiting: int = 0
    """Offers that waited, in all its queues."""
    oldest_wait_ms: int = 0
    """How long the oldest of them had waited."""


class ScheduleSet(Event, tag="schedule.set", frozen=True, kw_only=True):
    """A task is made at each later instant of a rule, `cron` or `every_ms`; a paused schedule stays paused."""

    spec: TaskSpec
    """What each of its tasks is."""
    digest: str
    """`payload_digest` of the spec."""
    cron: str | None = None
    """Five fields: minute, hour, day of the month, month, day of the week."""
    every_ms: PositiveMs | None = None
    """The time between two instants, the first of them so long after this event."""
    zone: str = "UTC"
    """The IANA name of the time zone that `cron` is read in."""
    overlap: Literal["allow", "skip"] = "allow"
    """`skip`: no task at an instant at which the one before has not settled."""


class ScheduleRemoved(Event, tag="schedule.removed", frozen=True, kw_only=True):
    """The schedule makes no more tasks; those that are there go on."""


class SchedulePaused(Event, tag="schedule.paused", frozen=True, kw_only=True):
    """The schedule makes no tasks until it is resumed."""


class ScheduleResumed(Event, tag="schedule.resumed", frozen=True, kw_only=True):
    """The schedule makes tasks again, at instants after this event."""


TaskEvent = (
    TaskHeld
    | TaskQueued
    | TaskClaimed
    | TaskRetried
    | TaskReturned
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
    | TaskExpired
    | TaskCancelRequested
)
TerminalEvent = TaskCompleted | TaskFailed | TaskCancelled | TaskExpired
AgentEvent = (
    AgentStarted | AgentDraining | AgentStrained | AgentRecovered | AgentStopped | AgentLost
)
BarrierEvent = BarrierOpened | BarrierReleased | BarrierAbandoned
QueueEvent = QueuePaused | QueueResumed | QueueScaled | QueueDerived
WorkerEvent = WorkerSpawned | WorkerExited | WorkerRefused
CredentialEvent = CredentialPaused | CredentialResumed
LimitEvent = LimitSet | LimitAdmitted
BudgetEvent = BudgetSet | BudgetExhausted
ScheduleEvent = ScheduleSet | ScheduleRemoved | SchedulePaused | ScheduleResumed
AnyEvent = (
    TaskEvent
    | BarrierEvent
    | AgentEvent
    | WorkerEvent
    | QueueEvent
    | CredentialEvent
    | LimitEvent
    | BudgetEvent
    | ScheduleEvent
)

EVENT_TYPES: Final[dict[str, type[Event]]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        *(TaskHeld, TaskQueued, TaskClaimed, TaskRetried, TaskReturned, TaskCompleted, TaskFailed),
        *(TaskCancelled, TaskExpired, TaskCancelRequested),
        *(BarrierOpened, BarrierReleased, BarrierAbandoned),
        *(AgentStarted, AgentDraining, AgentStrained, AgentRecovered, AgentStopped, AgentLost),
        *(QueuePaused, QueueResumed, QueueScaled, QueueDerived),
        *(WorkerSpawned, WorkerExited, WorkerRefused),
        *(CredentialPaused, CredentialResumed),
        *(LimitSet, LimitAdmitted, BudgetSet, BudgetExhausted),
        *(ScheduleSet, ScheduleRemoved, SchedulePaused, ScheduleResumed),
    )
}

_VERBS: Final = {kind: name.rpartition(".")[2] for name, kind in EVENT_TYPES.items()}


def type_of(event: Event) -> str:
    """The event's type, such as `task.queued`."""
    return str(event.__struct_config__.tag)


def verb_of(event: Event) -> str:
    """The last token of the event's subject, such as `queued`."""
    return _VERBS[type(event)]
