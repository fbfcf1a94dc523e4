"""Random specs, events and times, as wild as their types allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from fleetlog.schemas import events
from fleetlog.schemas.budgets import AMOUNT_MAX, Action, Budget, Resource, Spent
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.fan_outs import MEMBERS_MAX, FanOutSpec, Member
from fleetlog.schemas.ids import KEY_LENGTH_MAX
from fleetlog.schemas.objects import Artifact, ObjectRef
from fleetlog.schemas.questions import Answer, Question
from fleetlog.schemas.specs import Backoff, TaskSpec
from fleetlog.schemas.subjects import PRIORITIES

TOKEN = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
TEXT = st.text(max_size=20)
NAME = st.text(min_size=1, max_size=20)
COUNT = st.integers(0, 5)
WILD_INT = st.one_of(st.integers(-3, 12), st.sampled_from([-(2**63), 2**63, 10**30, -(10**30)]))
MS = st.one_of(st.integers(0, 5_000), st.just(DURATION_MAX_MS))
LIMIT_MS = st.none() | st.integers(1, 20_000) | st.just(DURATION_MAX_MS)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANT = st.datetimes(timezones=st.one_of(st.just(UTC), OFFSETS))
JSON_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
JSON_OBJECT = st.dictionaries(TEXT, JSON_VALUE, max_size=3)


def raw(values: st.SearchStrategy[Any]) -> st.SearchStrategy[msgspec.Raw]:
    return values.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))


SHA256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
REFS = st.builds(ObjectRef, sha256=SHA256, size=st.integers(0, 2**40))

AMOUNT = st.none() | st.integers(0, 5) | st.just(AMOUNT_MAX)
ACTIONS = st.sampled_from(get_args(Action))
BUDGETS = st.builds(Budget, tokens=AMOUNT, cost_micro_usd=AMOUNT, wall_ms=AMOUNT, action=ACTIONS)
_BINDING_BUDGETS = BUDGETS.filter(
    lambda each: (each.tokens, each.cost_micro_usd, each.wall_ms) != (None, None, None)
)
GATE_KEY = st.one_of(
    TOKEN, NAME, st.sampled_from(["user:ann", "user:*"]), st.just("k" * KEY_LENGTH_MAX)
)
GATE_KEYS = st.lists(GATE_KEY, max_size=2, unique=True).map(tuple)

SPECS = st.builds(
    TaskSpec,
    handler=NAME,
    args=raw(JSON_OBJECT),
    executor=NAME,
    queue=TOKEN,
    priority=st.sampled_from(PRIORITIES),
    key=st.none() | st.text(min_size=1, max_size=20) | st.just("k" * KEY_LENGTH_MAX),
    labels=st.dictionaries(NAME, TEXT, max_size=3),
    max_attempts=st.integers(1, 4) | st.just(1000),
    backoff=st.builds(Backoff, first_ms=MS, max_ms=MS),
    timeout_ms=LIMIT_MS,
    start_within_ms=LIMIT_MS,
    silence_ms=LIMIT_MS,
    expires_ms=LIMIT_MS,
    delay_ms=MS,
    parent_id=st.none() | TOKEN,
    barrier_id=st.none() | TOKEN,
    repo=st.none() | TOKEN | TOKEN.map("/{}".format),
    limits=GATE_KEYS,
    budgets=GATE_KEYS,
    budget=st.none() | _BINDING_BUDGETS,
    fair_key=st.none() | GATE_KEY,
    schedule=st.none() | TOKEN,
    requires=st.dictionaries(NAME, NAME, max_size=3),
    affinity=st.none() | NAME,
    affinity_ms=st.integers(1, 20_000) | st.just(DURATION_MAX_MS),
)
WAITING_SPECS = st.builds(
    TaskSpec,
    handler=NAME,
    delay_ms=MS,
    expires_ms=LIMIT_MS,
    continues=st.none() | TOKEN,
    after=st.lists(TOKEN, max_size=3).map(tuple),
)
_MEMBER = st.builds(Member, TOKEN, spec=st.none() | SPECS, digest=TEXT)
FAN_OUTS = st.builds(
    FanOutSpec,
    count=st.integers(0, 4) | st.just(MEMBERS_MAX),
    members=st.lists(_MEMBER, max_size=3).map(tuple),
    members_ref=st.none() | REFS,
    policy=st.sampled_from(["settled", "all", "any", "quorum"]),
    quorum=st.none() | st.integers(1, 4),
    stragglers=st.sampled_from(["cancel", "wait"]),
    deadline_ms=LIMIT_MS,
    then=st.none() | _MEMBER,
)

_STAMP: dict[str, st.SearchStrategy[Any]] = {
    "id": TEXT,
    "occurred_at": INSTANT,
    "cause": st.none() | TEXT,
    "actor": st.none() | TEXT,
    "reason": st.none() | TEXT,
}
_USAGE = st.builds(
    events.Usage,
    input_tokens=COUNT,
    output_tokens=COUNT,
    cost_micro_usd=WILD_INT,
    model=st.none() | TEXT,
)
_END: dict[str, st.SearchStrategy[Any]] = {
    **_STAMP,
    "attempts": WILD_INT,
    "fence": st.none() | st.integers(0, 30),
    "ran_ms": st.none() | WILD_INT,
    "exit_code": st.none() | WILD_INT,
    "usage": st.none() | _USAGE,
    "artifacts": st.lists(
        st.builds(Artifact, name=TEXT, sha256=SHA256, size=st.integers(0, 2**40), media_type=TEXT),
        max_size=2,
    ).map(tuple),
    "worktree": st.none()
    | st.builds(
        events.WorktreeReport,
        repository=TEXT,
        base=TEXT,
        branch=st.none() | TEXT,
        head=st.none() | TEXT,
        commits=WILD_INT,
        files_changed=COUNT,
        insertions=COUNT,
        deletions=WILD_INT,
        kept=st.none() | TEXT,
        note=st.none() | TEXT,
    ),
    "allowances": st.lists(
        st.builds(
            events.AllowanceUse,
            credential=TOKEN,
            window=TEXT,
            utilization=st.floats(0, 10),
            resets_at=st.none() | INSTANT,
        ),
        max_size=2,
    ).map(tuple),
}
_WHY = {
    "error_class": st.sampled_from([*get_args(events.ErrorClass), "of-tomorrow"]),
    "error": TEXT,
}
_ANSWERS = st.builds(Answer, question=TEXT, answer=JSON_VALUE, actor=st.none() | TEXT, at=INSTANT)
_DIGEST = {"digest": st.none() | TEXT}
_PROCESS = {"host": TEXT, "pid": WILD_INT}

TASK_EVENTS: dict[type[events.Event], st.SearchStrategy[Any]] = {
    events.TaskHeld: st.builds(events.TaskHeld, **_STAMP, spec=SPECS | WAITING_SPECS, digest=TEXT),
    events.TaskQueued: st.builds(
        events.TaskQueued,
        **_STAMP,
        spec=SPECS | WAITING_SPECS,
        digest=TEXT,
        attempt=WILD_INT,
        failures=WILD_INT,
        losses=WILD_INT,
        submitted_at=st.none() | INSTANT,
        answers=st.lists(_ANSWERS, max_size=2).map(tuple),
        host=st.none() | TEXT,
    ),
    events.TaskClaimed: st.builds(
        events.TaskClaimed,
        **_STAMP,
        agent_id=TOKEN,
        worker_id=TOKEN,
        host=TEXT,
        attempt=WILD_INT,
        offer=st.integers(0, 30),
        ack=st.none() | TEXT,
        over=st.none() | st.integers(0, 30),
    ),
    events.TaskRetried: st.builds(events.TaskRetried, **_END, **_WHY, delay_ms=WILD_INT),
    events.TaskReturned: st.builds(
        events.TaskReturned,
        **_END,
        **_WHY,
        delay_ms=WILD_INT,
        question=st.none()
        | st.builds(Question, text=TEXT, choices=st.lists(TEXT, max_size=2).map(tuple)),
    ),
    events.TaskCompleted: st.builds(
        events.TaskCompleted,
        **_END,
        **_DIGEST,
        result=raw(JSON_VALUE),
        result_ref=st.none() | REFS,
        fan_out=st.none() | FAN_OUTS,
    ),
    events.TaskFailed: st.builds(events.TaskFailed, **_END, **_WHY, **_DIGEST),
    events.TaskCancelled: st.builds(events.TaskCancelled, **_END, **_DIGEST),
    events.TaskExpired: st.builds(
        events.TaskExpired, **_END, **_DIGEST, limit=st.sampled_from(["start_within", "expires"])
    ),
    events.TaskCancelRequested: st.builds(events.TaskCancelRequested, **_STAMP),
}
_COUNTS = {"expected": WILD_INT, "settled": WILD_INT, "succeeded": WILD_INT}
OTHER_EVENTS: dict[type[events.Event], st.SearchStrategy[Any]] = {
    events.BarrierOpened: st.builds(
        events.BarrierOpened,
        **_STAMP,
        fan_out=FAN_OUTS,
        digest=TEXT,
        parent_id=st.none() | TOKEN,
    ),
    events.BarrierReleased: st.builds(
        events.BarrierReleased,
        **_STAMP,
        **_COUNTS,
        opened=st.integers(0, 30),
        outcomes=st.lists(WILD_INT, max_size=4).map(tuple),
        outcomes_ref=st.none() | REFS,
    ),
    events.BarrierAbandoned: st.builds(
        events.BarrierAbandoned,
        **_STAMP,
        **_COUNTS,
        why=st.sampled_from(["policy", "cancelled", "parent", "of-tomorrow"]),
        error=TEXT,
    ),
    events.AgentStarted: st.builds(
        events.AgentStarted,
        **_STAMP,
        **_PROCESS,
        version=TEXT,
        queues=st.lists(TOKEN, max_size=3).map(tuple),
        workers=COUNT,
        concurrency=COUNT,
        reserve_high=COUNT,
        labels=st.dictionaries(TEXT, TEXT, max_size=3),
        handlers=st.dictionaries(TEXT, raw(JSON_OBJECT), max_size=3),
    ),
    events.AgentDraining: st.builds(events.AgentDraining, **_STAMP),
    events.AgentStopped: st.builds(events.AgentStopped, **_STAMP),
    events.AgentLost: st.builds(events.AgentLost, **_STAMP, silent_ms=WILD_INT),
    events.WorkerSpawned: st.builds(events.WorkerSpawned, **_STAMP, **_PROCESS),
    events.WorkerExited: st.builds(
        events.WorkerExited,
        **_STAMP,
        **_PROCESS,
        exit_code=st.none() | WILD_INT,
        signal=st.none() | WILD_INT,
    ),
    events.WorkerRefused: st.builds(
        events.WorkerRefused,
        **_STAMP,
        task_id=TOKEN,
        attempt=WILD_INT,
        fence=WILD_INT,
        verb=TEXT,
        digest=TEXT,
    ),
    events.CredentialPaused: st.builds(
        events.CredentialPaused,
        **_STAMP,
        **_WHY,
        until=st.none() | INSTANT,
        agent_id=st.none() | TOKEN,
        host=st.none() | TEXT,
    ),
    events.CredentialResumed: st.builds(events.CredentialResumed, **_STAMP),
    events.QueuePaused: st.builds(events.QueuePaused, **_STAMP),
    events.QueueResumed: st.builds(events.QueueResumed, **_STAMP),
    events.QueueDerived: st.builds(
        events.QueueDerived,
        **_STAMP,
        queue=TOKEN,
        requires=st.dictionaries(NAME, NAME, max_size=3),
    ),
    events.QueueScaled: st.builds(
        events.QueueScaled,
        **_STAMP,
        agent_id=TOKEN,
        host=TEXT,
        workers_before=COUNT,
        workers_after=COUNT,
        waiting=WILD_INT,
        oldest_wait_ms=WILD_INT,
    ),
    events.AgentStrained: st.builds(
        events.AgentStrained,
        **_STAMP,
        strains=st.lists(
            st.builds(
                events.Strain,
                resource=st.sampled_from(["disk", "memory", "files"]),
                left=WILD_INT,
                floor=WILD_INT,
                where=st.none() | TEXT,
            ),
            max_size=2,
        ).map(tuple),
    ),
    events.AgentRecovered: st.builds(events.AgentRecovered, **_STAMP),
    events.LimitSet: st.builds(
        events.LimitSet,
        **_STAMP,
        key=GATE_KEY,
        concurrency=st.none() | COUNT,
        rate=st.none() | st.integers(1, 5),
        per_ms=st.integers(1, 20_000),
        burst=st.none() | st.integers(1, 5),
    ),
    events.LimitAdmitted: st.builds(
        events.LimitAdmitted, **_STAMP, key=GATE_KEY, tasks=st.lists(TOKEN, max_size=4).map(tuple)
    ),
    events.BudgetSet: st.builds(
        events.BudgetSet, **_STAMP, key=GATE_KEY, budget=BUDGETS, is_reset=st.booleans()
    ),
    events.BudgetExhausted: st.builds(
        events.BudgetExhausted,
        **_STAMP,
        key=GATE_KEY,
        resource=st.sampled_from(get_args(Resource)),
        action=ACTIONS,
        spent=st.builds(Spent, tokens=COUNT, cost_micro_usd=WILD_INT, wall_ms=COUNT),
    ),
    events.ScheduleSet: st.builds(
        events.ScheduleSet,
        **_STAMP,
        spec=SPECS,
        digest=TEXT,
        cron=st.none() | TEXT,
        every_ms=LIMIT_MS,
        zone=TEXT,
        overlap=st.sampled_from(["allow", "skip"]),
    ),
    events.ScheduleRemoved: st.builds(events.ScheduleRemoved, **_STAMP),
    events.SchedulePaused: st.builds(events.SchedulePaused, **_STAMP),
    events.ScheduleResumed: st.builds(events.ScheduleResumed, **_STAMP),
}
EVENTS = st.one_of(*TASK_EVENTS.values(), *OTHER_EVENTS.values())
UNKNOWN = st.builds(UnknownEvent, st.none() | TEXT, TEXT)
STORED_AT = st.integers(0, 10**9).map(
    lambda ms: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
