"""The events of the golden files, by file name. `python -m tests.golden.samples` writes what is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from fleetlog.schemas import events
from fleetlog.schemas.budgets import Budget, Spent
from fleetlog.schemas.envelope import encode
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.objects import Artifact, ObjectRef
from fleetlog.schemas.questions import Answer, Question
from fleetlog.schemas.specs import Backoff, TaskSpec

FOLDER: Final = Path(__file__).parent / f"v{events.SCHEMA_VERSION}"

_AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
_STAMP: Final[dict[str, Any]] = {"id": "01kdyb7sde0000000000000001", "occurred_at": _AT}
_FULL: Final[dict[str, Any]] = {
    **_STAMP,
    "cause": "01kdyb7sde0000000000000000",
    "actor": "ann",
    "reason": 'the "reef" is über full',
}
_SPEC: Final = TaskSpec(handler="greet")
_FULL_SPEC: Final = TaskSpec(
    handler="reindex",
    args=msgspec.Raw(b'{"shard": 7, "names": ["\xc3\xa9", "b"], "nested": {"x": 1.50}}'),
    executor="command",
    queue="gpu-1",
    priority="high",
    key="order 7/2026",
    labels={"team": "search", "ref": ""},
    max_attempts=5,
    backoff=Backoff(first_ms=250, max_ms=60_000),
    timeout_ms=None,
    start_within_ms=60_000,
    silence_ms=30_000,
    expires_ms=86_400_000,
    delay_ms=1_500,
    parent_id="p-1",
)
_REF: Final = ObjectRef(sha256="0123456789abcdef" * 4, size=1_048_576)
_LEFT: Final[dict[str, Any]] = {
    **_STAMP,
    "attempts": 1,
    "artifacts": (
        Artifact(name="report.html", sha256="ab" * 32, size=3_141, media_type="text/html"),
        Artifact(name="Kärtchen 7", sha256="cd" * 32, size=0),
    ),
}
_WORKED: Final[dict[str, Any]] = {
    **_STAMP,
    "attempts": 1,
    "worktree": events.WorktreeReport(
        repository="/src/my shop",
        base="0123456789abcdef0123456789abcdef01234567",
        branch="fleetlog/t1/1",
        head="89abcdef0123456789abcdef0123456789abcdef",
        commits=2,
        files_changed=3,
        insertions=40,
        deletions=5,
        kept="/data/worktrees/trees/t1.1",
        note="it ended in the middle of a rebase",
    ),
    "allowances": (
        events.AllowanceUse(credential="claude", window="five_hour", utilization=1.0),
        events.AllowanceUse(
            credential="claude", window="seven_day", utilization=0.25, resets_at=_AT
        ),
    ),
}
_REPO_SPEC: Final = TaskSpec(handler="make", executor="command", repo="/src/my shop")
_BUDGET: Final = Budget(
    tokens=2_000_000, cost_micro_usd=5_000_000, wall_ms=3_600_000, action="stop"
)
_GATED_SPEC: Final = TaskSpec(
    handler="reindex",
    limits=("api", "user:ann lee"),
    budgets=("team/search",),
    budget=_BUDGET,
    fair_key="ann",
)
_STORED_SPEC: Final = TaskSpec(handler="reindex", args_ref=_REF)
_MEMBER_SPEC: Final = TaskSpec(
    handler="check_disk", args=msgspec.Raw(b'{"host":"cube"}'), parent_id="p-1", barrier_id="b-1"
)
_THEN_SPEC: Final = TaskSpec(handler="report", parent_id="p-1", continues="b-1")
_REQUIRES: Final = {"gpu": "yes", "os": "linux"}
_REQUIRING_SPEC: Final = TaskSpec(handler="train", queue="ml", requires=_REQUIRES)
_AFFINITY_SPEC: Final = TaskSpec(handler="train", affinity="shop 7", affinity_ms=5_000)
_AFTER_SPEC: Final = TaskSpec(handler="greet", after=("b-1-1", "t1"))
_MEMBERS: Final = (
    Member("b-1-1", spec=_MEMBER_SPEC, digest="zTma3WGFyidJJQhIfbPmqQ"),
    Member("t1"),
)
_FAN_OUT: Final = FanOutSpec(
    count=2,
    members=_MEMBERS,
    policy="quorum",
    quorum=1,
    stragglers="wait",
    deadline_ms=120_000,
    then=Member("b-1-then", spec=_THEN_SPEC, digest="2jmj7l5rSw0yVb_vlWAYkA"),
)
_STORED_FAN_OUT: Final = FanOutSpec(count=50_000, members_ref=_REF, policy="all")
_SESSION: Final = "0b7c8f4e-5a5e-4f6e-9d0c-1f1a2b3c4d5e"
_DIGEST: Final = "zTma3WGFyidJJQhIfbPmqQ"
_USAGE: Final = events.Usage(
    input_tokens=1_200, output_tokens=340, cost_micro_usd=98_765, model="some-model-1"
)
_END: Final[dict[str, Any]] = {
    **_FULL,
    "attempts": 2,
    "fence": 41,
    "ran_ms": 1_234,
    "exit_code": -9,
    "usage": _USAGE,
}

SAMPLES: Final[dict[str, events.AnyEvent]] = {
    "task.held.minimal": events.TaskHeld(**_STAMP, spec=_SPEC, digest=_DIGEST),
    "task.held.full": events.TaskHeld(**_FULL, spec=_FULL_SPEC, digest=_DIGEST),
    "task.held.repo": events.TaskHeld(**_STAMP, spec=_REPO_SPEC, digest=_DIGEST),
    "task.held.stored": events.TaskHeld(**_STAMP, spec=_STORED_SPEC, digest=_DIGEST),
    "task.held.gated": events.TaskHeld(**_STAMP, spec=_GATED_SPEC, digest=_DIGEST),
    "task.queued.gated": events.TaskQueued(**_STAMP, spec=_GATED_SPEC, digest=_DIGEST),
    "task.held.after": events.TaskHeld(**_STAMP, spec=_AFTER_SPEC, digest=_DIGEST),
    "task.held.continuation": events.TaskHeld(**_STAMP, spec=_THEN_SPEC, digest=_DIGEST),
    "task.queued.scheduled": events.TaskQueued(
        **_STAMP, spec=TaskSpec(handler="greet", schedule="nightly"), digest=_DIGEST
    ),
    "task.queued.member": events.TaskQueued(**_STAMP, spec=_MEMBER_SPEC, digest=_DIGEST),
    "task.queued.requires": events.TaskQueued(**_STAMP, spec=_REQUIRING_SPEC, digest=_DIGEST),
    "queue.derived.minimal": events.QueueDerived(**_STAMP, queue="ml", requires=_REQUIRES),
    "queue.derived.full": events.QueueDerived(**_FULL, queue="default", requires={"größe": "l xl"}),
    "task.queued.affinity": events.TaskQueued(
        **_STAMP, spec=_AFFINITY_SPEC, digest=_DIGEST, session_id=_SESSION, host="cube"
    ),
    "task.held.answered": events.TaskHeld(
        **_STAMP,
        spec=_GATED_SPEC,
        digest=_DIGEST,
        answers=(Answer(question="Which branch?", answer="main", actor="ann", at=_AT),),
    ),
    "task.queued.answered": events.TaskQueued(
        **_STAMP,
        spec=_SPEC,
        digest=_DIGEST,
        attempt=3,
        answers=(
            Answer(question="Which branch?", answer="main", actor="ann", at=_AT),
            Answer(question="How many?", answer={"n": 7}, at=_AT),
        ),
    ),
    "task.returned.asking": events.TaskReturned(
        **_STAMP,
        attempts=1,
        fence=41,
        error_class="needs_input",
        error="Which branch?",
        question=Question(text="Which branch?", choices=("main", "größe 2")),
    ),
    "task.queued.minimal": events.TaskQueued(**_STAMP, spec=_SPEC, digest=_DIGEST),
    "task.queued.full": events.TaskQueued(
        **_FULL,
        spec=_FULL_SPEC,
        digest=_DIGEST,
        attempt=3,
        failures=1,
        losses=1,
        submitted_at=_AT,
    ),
    "task.queued.repo": events.TaskQueued(**_STAMP, spec=_REPO_SPEC, digest=_DIGEST),
    "task.queued.stored": events.TaskQueued(**_STAMP, spec=_STORED_SPEC, digest=_DIGEST),
    "task.queued.session": events.TaskQueued(
        **_STAMP, spec=_STORED_SPEC, digest=_DIGEST, attempt=2, session_id=_SESSION
    ),
    "task.claimed.minimal": events.TaskClaimed(
        **_STAMP, agent_id="a1", worker_id="w1", host="h1", attempt=1, offer=40
    ),
    "task.claimed.full": events.TaskClaimed(
        **_FULL,
        agent_id="a1",
        worker_id="w1",
        host="h1",
        attempt=2,
        offer=40,
        ack="$JS.ACK.FLEETLOG_f1.default_normal.1.40.1.1767323045678901000.0",
        over=41,
    ),
    "task.retried.minimal": events.TaskRetried(
        **_STAMP, attempts=1, error_class="error", error="", delay_ms=0
    ),
    "task.retried.artifacts": events.TaskRetried(
        **_LEFT, error_class="error", error="no", delay_ms=10
    ),
    "task.retried.session": events.TaskRetried(
        **_STAMP, attempts=1, error_class="max_turns", error="", delay_ms=1, session_id=_SESSION
    ),
    "task.retried.worktree": events.TaskRetried(
        **_WORKED, error_class="error", error="no", delay_ms=10
    ),
    "task.retried.full": events.TaskRetried(
        **_END, error_class="timeout", error="ran longer than 1h\n", delay_ms=2_000
    ),
    "task.returned.minimal": events.TaskReturned(
        **_STAMP, attempts=1, error_class="lost", error=""
    ),
    "task.returned.artifacts": events.TaskReturned(**_LEFT, error_class="drained", error="no"),
    "task.returned.limited": events.TaskReturned(
        **_STAMP, attempts=1, error_class="usage_limit", error="", session_id=_SESSION
    ),
    "task.returned.worktree": events.TaskReturned(**_WORKED, error_class="drained", error="no"),
    "task.returned.full": events.TaskReturned(
        **_END, error_class="drained", error="told to stop", delay_ms=500
    ),
    "task.completed.minimal": events.TaskCompleted(**_STAMP, attempts=1),
    "task.completed.artifacts": events.TaskCompleted(**_LEFT),
    "task.completed.session": events.TaskCompleted(**_STAMP, attempts=1, session_id=_SESSION),
    "task.completed.worktree": events.TaskCompleted(**_WORKED),
    "task.completed.full": events.TaskCompleted(
        **_END,
        result=msgspec.Raw(b'{"n": 1.0, "big": 123456789012345678901, "t": "\xf0\x9f\x9a\x80"}'),
        digest=_DIGEST,
    ),
    "task.completed.stored": events.TaskCompleted(
        **_STAMP, attempts=1, result_ref=_REF, digest=_DIGEST
    ),
    "task.completed.fan-out": events.TaskCompleted(**_STAMP, attempts=1, fan_out=_FAN_OUT),
    "task.completed.stored-fan-out": events.TaskCompleted(
        **_STAMP, attempts=1, fan_out=_STORED_FAN_OUT
    ),
    "task.failed.minimal": events.TaskFailed(
        **_STAMP, attempts=1, error_class="permanent", error=""
    ),
    "task.failed.artifacts": events.TaskFailed(**_LEFT, error_class="error", error="no"),
    "task.failed.session": events.TaskFailed(
        **_STAMP, attempts=1, error_class="max_budget", error="", session_id=_SESSION
    ),
    "task.failed.worktree": events.TaskFailed(**_WORKED, error_class="error", error="no"),
    "task.failed.full": events.TaskFailed(
        **_END, error_class="a-class-of-tomorrow", error="no\tway", digest=_DIGEST
    ),
    "task.cancelled.minimal": events.TaskCancelled(**_STAMP, attempts=0),
    "task.cancelled.artifacts": events.TaskCancelled(**_LEFT),
    "task.cancelled.session": events.TaskCancelled(**_STAMP, attempts=1, session_id=_SESSION),
    "task.cancelled.worktree": events.TaskCancelled(**_WORKED),
    "task.cancelled.full": events.TaskCancelled(**_END, digest=_DIGEST),
    "task.expired.minimal": events.TaskExpired(**_STAMP, attempts=0, limit="start_within"),
    "task.expired.artifacts": events.TaskExpired(**_LEFT, limit="expires"),
    "task.expired.session": events.TaskExpired(
        **_STAMP, attempts=1, limit="expires", session_id=_SESSION
    ),
    "task.expired.worktree": events.TaskExpired(**_WORKED, limit="expires"),
    "task.expired.full": events.TaskExpired(**_END, limit="expires", digest=_DIGEST),
    "task.cancel_requested.minimal": events.TaskCancelRequested(**_STAMP),
    "task.cancel_requested.full": events.TaskCancelRequested(**_FULL),
    "barrier.opened.minimal": events.BarrierOpened(
        **_STAMP, fan_out=FanOutSpec(count=0), digest=_DIGEST
    ),
    "barrier.opened.full": events.BarrierOpened(
        **_FULL, fan_out=_FAN_OUT, digest=_DIGEST, parent_id="p-1"
    ),
    "barrier.opened.stored": events.BarrierOpened(
        **_STAMP, fan_out=_STORED_FAN_OUT, digest=_DIGEST
    ),
    "barrier.released.minimal": events.BarrierReleased(
        **_STAMP, opened=40, expected=0, settled=0, succeeded=0
    ),
    "barrier.released.full": events.BarrierReleased(
        **_FULL, opened=40, expected=3, settled=2, succeeded=1, outcomes=(52, 0, 61)
    ),
    "barrier.released.stored": events.BarrierReleased(
        **_STAMP, opened=40, expected=50_000, settled=50_000, succeeded=50_000, outcomes_ref=_REF
    ),
    "barrier.abandoned.minimal": events.BarrierAbandoned(
        **_STAMP, why="cancelled", error="it was cancelled"
    ),
    "barrier.abandoned.full": events.BarrierAbandoned(
        **_FULL,
        why="policy",
        error="1 of 3 completed, too few for all: b-1-2 failed (permanent)",
        expected=3,
        settled=2,
        succeeded=1,
    ),
    "agent.started.minimal": events.AgentStarted(
        **_STAMP, host="h1", pid=1, version="0.1.0", queues=(), workers=1, concurrency=1
    ),
    "agent.started.full": events.AgentStarted(
        **_FULL,
        host="h1",
        pid=4242,
        version="0.1.0",
        queues=("default", "host-h1"),
        workers=8,
        concurrency=16,
        labels={"gpu": "2"},
        handlers={"greet": msgspec.Raw(b'{"type": "object", "required": ["name"]}')},
    ),
    "agent.started.elastic": events.AgentStarted(
        **_STAMP,
        host="h1",
        pid=1,
        version="0.1.0",
        queues=("default",),
        workers=2,
        concurrency=1,
        workers_max=16,
    ),
    "agent.started.reserving": events.AgentStarted(
        **_STAMP,
        host="h1",
        pid=1,
        version="0.1.0",
        queues=("default",),
        workers=4,
        concurrency=1,
        reserve_high=1,
    ),
    "agent.draining.minimal": events.AgentDraining(**_STAMP),
    "agent.draining.full": events.AgentDraining(**_FULL),
    "agent.stopped.minimal": events.AgentStopped(**_STAMP),
    "agent.stopped.full": events.AgentStopped(**_FULL),
    "credential.paused.minimal": events.CredentialPaused(
        **_STAMP, error_class="auth", error="not logged in"
    ),
    "credential.paused.full": events.CredentialPaused(
        **_FULL,
        error_class="usage_limit",
        error="You've hit your limit",
        until=_AT,
        agent_id="a01kdyb7sde0000000000000002",
        host="cube",
    ),
    "credential.resumed.minimal": events.CredentialResumed(**_STAMP),
    "credential.resumed.full": events.CredentialResumed(**_FULL),
    "schedule.set.minimal": events.ScheduleSet(
        **_STAMP, spec=_SPEC, digest=_DIGEST, every_ms=60_000
    ),
    "schedule.set.full": events.ScheduleSet(
        **_FULL,
        spec=_FULL_SPEC,
        digest=_DIGEST,
        cron="*/5 9-17 * * mon-fri",
        zone="Europe/Berlin",
        overlap="skip",
    ),
    "schedule.removed.minimal": events.ScheduleRemoved(**_STAMP),
    "schedule.removed.full": events.ScheduleRemoved(**_FULL),
    "schedule.paused.minimal": events.SchedulePaused(**_STAMP),
    "schedule.paused.full": events.SchedulePaused(**_FULL),
    "schedule.resumed.minimal": events.ScheduleResumed(**_STAMP),
    "schedule.resumed.full": events.ScheduleResumed(**_FULL),
    "agent.lost.minimal": events.AgentLost(**_STAMP, silent_ms=3_000),
    "agent.lost.full": events.AgentLost(**_FULL, silent_ms=3_456),
    "agent.strained.minimal": events.AgentStrained(**_STAMP, strains=()),
    "agent.strained.full": events.AgentStrained(
        **_FULL,
        strains=(
            events.Strain(resource="disk", left=1_048_576, floor=268_435_456, where="/data"),
            events.Strain(resource="files", left=12, floor=64),
        ),
    ),
    "agent.recovered.minimal": events.AgentRecovered(**_STAMP),
    "agent.recovered.full": events.AgentRecovered(**_FULL),
    "limit.set.minimal": events.LimitSet(**_STAMP, key="api"),
    "limit.set.full": events.LimitSet(
        **_FULL, key="user:*", concurrency=4, rate=30, per_ms=60_000, burst=5
    ),
    "limit.admitted.minimal": events.LimitAdmitted(**_STAMP, key="api", tasks=()),
    "limit.admitted.full": events.LimitAdmitted(**_FULL, key="user:ann lee", tasks=("t1", "b-1-2")),
    "budget.set.minimal": events.BudgetSet(**_STAMP, key="t1", budget=Budget()),
    "budget.set.full": events.BudgetSet(**_FULL, key="team/search", budget=_BUDGET, is_reset=True),
    "budget.exhausted.minimal": events.BudgetExhausted(
        **_STAMP, key="t1", resource="tokens", action="hold", spent=Spent()
    ),
    "budget.exhausted.full": events.BudgetExhausted(
        **_FULL,
        key="team/search",
        resource="cost",
        action="stop",
        spent=Spent(tokens=1_999_999, cost_micro_usd=5_000_001, wall_ms=1_234),
    ),
    "queue.paused.minimal": events.QueuePaused(**_STAMP),
    "queue.paused.full": events.QueuePaused(**_FULL),
    "queue.resumed.minimal": events.QueueResumed(**_STAMP),
    "queue.resumed.full": events.QueueResumed(**_FULL),
    "queue.scaled.minimal": events.QueueScaled(
        **_STAMP, agent_id="a1", host="h1", workers_before=3, workers_after=2
    ),
    "queue.scaled.full": events.QueueScaled(
        **_FULL,
        agent_id="a1",
        host="h1",
        workers_before=2,
        workers_after=10,
        waiting=17,
        oldest_wait_ms=612,
    ),
    "worker.spawned.minimal": events.WorkerSpawned(**_STAMP, host="h1", pid=4243),
    "worker.spawned.full": events.WorkerSpawned(**_FULL, host="h1", pid=4243),
    "worker.exited.minimal": events.WorkerExited(**_STAMP, host="h1", pid=4243),
    "worker.exited.full": events.WorkerExited(
        **_FULL, host="h1", pid=4243, exit_code=137, signal=9
    ),
    "worker.refused.minimal": events.WorkerRefused(
        **_STAMP, task_id="t1", attempt=1, fence=41, verb="completed", digest="ab" * 32
    ),
    "worker.refused.full": events.WorkerRefused(
        **_FULL, task_id="t1", attempt=2, fence=41, verb="retried", digest="ab" * 32
    ),
}


def write_missing() -> list[str]:
    """Writes the golden file of each sample that has none; returns their names."""
    FOLDER.mkdir(exist_ok=True)
    written = []
    for name, event in SAMPLES.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_bytes(encode(event) + b"\n")
            written.append(path.name)
    return written


if __name__ == "__main__":
    print("\n".join(write_missing()) or "no golden file is missing")
