"""A task's history for programs and for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from fleetlog.bus.core import Task, evolve, permits
from fleetlog.bus.core.queues import QueueState
from fleetlog.bus.outcomes import History, outcome_of
from fleetlog.cli.answering import answered_text, how_to_answer, question_text
from fleetlog.cli.events import recorded_fields, recorded_line
from fleetlog.cli.pauses import describe_pause
from fleetlog.cli.rendering import instant_text, json_text, one_line
from fleetlog.schemas.durations import format_duration
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    AttemptEnd,
    TaskClaimed,
    TaskCompleted,
    WorktreeReport,
    verb_of,
)
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.requirements import requirements_text

_RESULT_MAX: Final = 2000
_NAMED_MAX: Final = 20


class AttemptRow(msgspec.Struct, kw_only=True):
    """One claim of a task, and how it ended."""

    attempt: int
    """1 for the first."""
    fence: int
    """Sequence of the claim."""
    host: str
    """Where it ran."""
    agent_id: str
    """Who held it."""
    worker_id: str
    """What ran it."""
    claimed_at: datetime
    """When the claim was stored."""
    ended_at: datetime | None = None
    """When its end was stored; None while it runs."""
    outcome: str | None = None
    """`completed`, `failed`, `retried`, `returned`, `cancelled`, or `lost` to the next claim."""
    error_class: str | None = None
    """Of what did not complete."""
    error: str | None = None
    """For people."""
    ran_ms: int | None = None
    """On the worker's clock."""
    exit_code: int | None = None
    """Of the process."""
    session_id: str | None = None
    """The session of an agent CLI, by which it can be resumed."""
    model: str | None = None
    """The model that most of what it used went to."""
    input_tokens: int | None = None
    """Read, cached ones included; None if it did not say."""
    output_tokens: int | None = None
    """Written."""
    cost_usd: float | None = None
    """US dollars."""
    worktree: WorktreeReport | None = None
    """Where its work stands, if it ran in a worktree."""


def task_fields(
    history: History, now: datetime, queue: QueueState | None = None, gate: str | None = None
) -> dict[str, Any]:
    """What `fleetlog task show --json` prints.

    Args:
        history: the task.
        now: the log's time.
        queue: that of a task on offer.
        gate: the tasks that it waits for, or what kind of agent, in words.
    """
    task = history.task
    outcome = outcome_of(task.id, task.outcome) if task.outcome is not None else None
    fan_out = _fan_out_of(task)
    return {
        "task_id": task.id,
        "state": task.status,
        "handler": task.spec.handler if task.spec else None,
        "queue": task.spec.queue if task.spec else None,
        "priority": task.spec.priority if task.spec else None,
        "attempts": attempts_of(history.events, task.id),
        "result": outcome.result if outcome else None,
        "result_ref": outcome.result_ref if outcome else None,
        "error": outcome.error if outcome else None,
        "error_class": outcome.error_class if outcome else None,
        "barrier_id": task.spec.barrier_id if task.spec else None,
        "parent_id": task.spec.parent_id if task.spec else None,
        "continues": task.spec.continues if task.spec else None,
        "after": task.spec.after if task.spec else (),
        "limits": task.spec.limits if task.spec else (),
        "budgets": task.budget_keys,
        "fair_key": task.spec.fair_key if task.spec else None,
        "schedule": task.spec.schedule if task.spec else None,
        "continuation_id": fan_out.then.task_id if fan_out and fan_out.then else None,
        "waits_for": waits_for(task, now, queue, gate),
        "question": task.question.text if task.question else None,
        "choices": task.question.choices if task.question else None,
        "asked_at": task.since if task.question else None,
        "answers": task.answers,
        "labels": task.spec.labels if task.spec else {},
        "requires": task.spec.requires if task.spec else {},
        "affinity": task.spec.affinity if task.spec else None,
        "args": task.spec.args if task.spec and task.spec.args_ref is None else None,
        "args_ref": task.spec.args_ref if task.spec else None,
        "events": [recorded_fields(record) for record in history.events],
    }


def waits_for(
    task: Task, now: datetime, queue: QueueState | None = None, gate: str | None = None
) -> str | None:
    """What keeps it; None when it runs or has settled. See `task_fields`."""
    match task.status:
        case "waiting" if task.question is not None:
            return f"an answer to {question_text(task.question)}: {how_to_answer(task.id)}"
        case "held" | "waiting" if gate is not None:
            is_early = task.due_at is not None and task.due_at > now
            return f"{gate}, and not before {instant_text(task.due_at)}" if is_early else gate
        case "held" if task.spec and task.spec.affinity and task.due_at and task.due_at <= now:
            return "a coordinator, to say on which host it is offered first"
        case "held" | "waiting" if task.due_at is not None:
            what = "time: may be queued at" if task.status == "held" else "retry at"
            late = ", a coordinator to do it" if task.due_at <= now else ""
            return f"{what} {instant_text(task.due_at)}{late}"
        case "queued" if queue is not None and queue.is_paused:
            resume = f"`fleetlog queue resume {queue.queue}` ends it"
            return f"queue {queue.queue}, which is {describe_pause(queue)}: {resume}"
        case "queued" if task.moves_at is not None:
            name = task.spec.queue if task.spec else "?"
            return (
                f"an agent of host {task.host} with a free slot for queue {name};"
                f" any agent's from {instant_text(task.moves_at)} on"
            )
        case "queued" if gate is not None:
            return gate
        case "queued":
            name = task.spec.queue if task.spec else "?"
            return f"an agent with a free slot for queue {name}"
        case "claimed" if task.is_cancel_requested:
            return "its agent, to end it"
        case "claimed":
            return gate
        case _:
            return None


def attempts_of(events: Iterable[Recorded], task_id: str) -> list[AttemptRow]:
    """The claims that counted, in order."""
    rows: list[AttemptRow] = []
    task = Task(id=task_id)
    for record in events:
        event = record.event
        if permits(task, event):
            if isinstance(event, TaskClaimed):
                if event.over is not None and rows:
                    _end(rows[-1], record, "lost")
                rows.append(_begun(record, event))
            elif isinstance(event, AttemptEnd) and task.lease is not None and rows:
                _end(rows[-1], record, verb_of(event), event)
        task = evolve(task, record)
    return rows


def describe(
    history: History, now: datetime, queue: QueueState | None = None, gate: str | None = None
) -> str:
    """What `fleetlog task show` prints; see `task_fields`."""
    task = history.task
    rows = [("task", task.id), ("state", task.status)]
    if (waiting := waits_for(task, now, queue, gate)) is not None:
        rows.append(("waits for", waiting))
    rows += _work_rows(task)
    rows += [("answered", answered_text(each)) for each in task.answers]
    rows += _outcome_rows(task)
    lines = [f"{name:<10} {text}" for name, text in rows]
    for row in attempts_of(history.events, task.id):
        lines.append(f"{f'attempt {row.attempt}':<10} {_attempt_text(row)}")
        if (used := _usage_text(row)) is not None:
            lines.append(f"{'used':>10} {used}")
        if row.session_id is not None:
            lines.append(f"{'session':>10} {one_line(row.session_id)}")
        if row.worktree is not None:
            lines += [f"{name:>10} {text}" for name, text in _worktree_rows(row.worktree)]
    if left := history.artifacts:
        names = ", ".join(dict.fromkeys(one_line(each.artifact.name) for each in left))
        lines.append(f"{'artifacts':<10} {names}: `fleetlog task artifact {task.id}` lists them")
    lines += ["", *(recorded_line(record, has_thing=False) for record in history.events)]
    return "\n".join(lines)


def _work_rows(task: Task) -> list[tuple[str, str]]:
    spec = task.spec
    if spec is None:
        return []
    rows = [
        ("handler", one_line(spec.handler)),
        ("queue", f"{spec.queue}, priority {spec.priority}"),
        ("args", _stored(spec.args_ref) or one_line(bytes(spec.args).decode("utf-8", "replace"))),
    ]
    if spec.repo is not None:
        rows.append(("repo", one_line(spec.repo)))
    if spec.labels:
        pairs = (f"{one_line(name)}={one_line(value)}" for name, value in spec.labels.items())
        rows.append(("labels", ", ".join(pairs)))
    if spec.requires:
        rows.append(("requires", one_line(requirements_text(spec.requires))))
    if spec.affinity is not None:
        rows.append(("affinity", one_line(spec.affinity)))
    if spec.key is not None:
        rows.append(("key", one_line(spec.key)))
    if spec.parent_id is not None:
        rows.append(("parent", spec.parent_id))
    if spec.barrier_id is not None:
        rows.append(("member of", f"barrier {spec.barrier_id}"))
    if spec.continues is not None:
        rows.append(("continues", f"barrier {spec.continues}"))
    if spec.schedule is not None:
        rows.append(("schedule", spec.schedule))
    if spec.after:
        rows.append(("after", _named(spec.after)))
    rows.append(("failures", f"{task.failures}, it has failed at {spec.max_attempts}"))
    return rows


def _outcome_rows(task: Task) -> list[tuple[str, str]]:
    if task.outcome is None:
        return []
    if (fan_out := _fan_out_of(task)) is not None:
        then = f", then task {fan_out.then.task_id}" if fan_out.then is not None else ""
        return [("fanned out", f"barrier {task.id}, of {fan_out.count} members{then}")]
    outcome = outcome_of(task.id, task.outcome)
    if outcome.is_completed:
        result = _stored(outcome.result_ref) or one_line(json_text(outcome.result))[:_RESULT_MAX]
        return [("result", result)]
    return [("error", f"({outcome.error_class}) {one_line(outcome.error or '')}")]


def _fan_out_of(task: Task) -> FanOutSpec | None:
    return task.outcome.fan_out if isinstance(task.outcome, TaskCompleted) else None


def _named(task_ids: Sequence[str]) -> str:
    more = len(task_ids) - _NAMED_MAX
    return ", ".join(task_ids[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _stored(ref: ObjectRef | None) -> str | None:
    """What is shown of a value too large for an event; None for one that stands there."""
    return f"stored: {ref.size} bytes, sha256 {ref.sha256}" if ref is not None else None


def _attempt_text(row: AttemptRow) -> str:
    where = f"on {one_line(row.host)}, {row.agent_id}/{row.worker_id}, since {instant_text(row.claimed_at)}"
    if row.outcome is None:
        return f"runs {where}"
    ran = f" after {format_duration(row.ran_ms)}" if row.ran_ms is not None else ""
    return f"{row.outcome}{ran} {where}"


def _usage_text(row: AttemptRow) -> str | None:
    if row.cost_usd is None:
        return None
    tokens = f"${row.cost_usd:.4f}, tokens read {row.input_tokens}, written {row.output_tokens}"
    return tokens if row.model is None else f"{tokens}, {one_line(row.model)}"


def _worktree_rows(report: WorktreeReport) -> list[tuple[str, str]]:
    stat = f"files {report.files_changed}, lines +{report.insertions} -{report.deletions}"
    work = f"{one_line(report.branch or '')}, commits {report.commits}, {stat}"
    rows = [
        ("work", work if report.branch is not None else "no commits"),
        ("of", f"{one_line(report.repository)}, from {one_line(report.base)[:12]}"),
    ]
    if report.kept is not None:
        rows.append(("kept", f"{one_line(report.kept)}, for a while"))
    if report.note is not None:
        rows.append(("note", one_line(report.note)))
    return rows


def _begun(record: Recorded, event: TaskClaimed) -> AttemptRow:
    return AttemptRow(
        attempt=event.attempt,
        fence=record.seq,
        host=event.host,
        agent_id=event.agent_id,
        worker_id=event.worker_id,
        claimed_at=record.stored_at,
    )


def _end(row: AttemptRow, record: Recorded, outcome: str, event: AttemptEnd | None = None) -> None:
    row.ended_at = record.stored_at
    row.outcome = outcome
    if event is not None:
        row.ran_ms, row.exit_code = event.ran_ms, event.exit_code
        row.worktree = event.worktree
        row.session_id = event.session_id
        if event.usage is not None:
            row.model, row.cost_usd = event.usage.model, event.usage.cost_micro_usd / 1_000_000
            row.input_tokens = event.usage.input_tokens
            row.output_tokens = event.usage.output_tokens
        row.error_class = getattr(event, "error_class", None)
        row.error = getattr(event, "error", None)
