"""Writes logs by hand, as JSON, right unless told otherwise."""

from __future__ import annotations

import json
from typing import Any, Final

from simulation.invariants.messages import Message, instant

T0_US: Final = 1_767_225_600_000_000
"""The first of January 2026."""

Fields = dict[str, Any]


class _Counts:
    """What a task's next event has to say."""

    def __init__(self, spec: Fields, at_us: int) -> None:
        self.spec = spec
        self.lane = ("default", "normal")
        self.first_at_us: int | None = at_us
        self.offer = self.fence = 0
        self.attempts = self.failures = self.losses = 0
        self.answers: list[Fields] = []


class Log:
    """A log that grows: each method appends an event and gives its sequence. Fields of None are left out."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.at_us = T0_US
        self._tasks: dict[str, _Counts] = {}

    def wait(self, ms: float) -> None:
        """Time passes."""
        self.at_us += round(ms * 1000)

    def raw(self, subject: str, data: bytes, *, seq: int | None = None) -> int:
        """Any bytes."""
        seq = len(self.messages) + 1 if seq is None else seq
        self.messages.append(Message(seq, self.at_us * 1000, subject, data))
        return seq

    def add(self, thing: str, verb: str, /, **fields: Any) -> int:
        """An event of a thing, which is named as in `limit.a`; a task's with its lane."""
        event = {
            "type": f"{thing.partition('.')[0]}.{verb}",
            "id": f"e{len(self.messages) + 1}",
            "occurred_at": text_of(self.at_us),
            "v": 1,
            **fields,
        }
        kept = {name: value for name, value in event.items() if value is not None}
        return self.raw(f"fleetlog.f.{thing}.{verb}", json.dumps(kept).encode())

    # Tasks.

    def held(self, task_id: str, spec: Fields | None = None, **fields: Any) -> int:
        task = self._task(task_id, spec)
        told: Fields = {"spec": task.spec, "digest": "d", "answers": task.answers or None}
        return self._of_task(task_id, "held", **(told | fields))

    def queued(self, task_id: str, spec: Fields | None = None, **fields: Any) -> int:
        is_first = task_id not in self._tasks
        task = self._task(task_id, spec)
        first = task.first_at_us
        told: Fields = {
            "spec": task.spec,
            "digest": "d",
            "attempt": task.attempts + 1,
            "failures": task.failures,
            "losses": task.losses,
            "submitted_at": None if is_first or first is None else text_of(first),
            "answers": task.answers or None,
        }
        task.offer = self._of_task(task_id, "queued", **(told | fields))
        return task.offer

    def claimed(self, task_id: str, **fields: Any) -> int:
        task = self._tasks[task_id]
        told: Fields = {
            "agent_id": "a",
            "worker_id": "w",
            "host": "h",
            "attempt": task.attempts + 1,
            "offer": task.offer,
        }
        task.fence = self._of_task(task_id, "claimed", **(told | fields))
        task.attempts += 1
        task.losses += fields.get("over") is not None
        return task.fence

    def ended(self, verb: str, task_id: str, **fields: Any) -> int:
        """Any event that ends an attempt or the task."""
        task = self._tasks[task_id]
        told: Fields = {"attempts": task.attempts, "fence": task.fence or None, "ran_ms": 1}
        task.fence = 0
        task.failures += verb == "retried"
        task.losses += verb == "returned" and fields.get("error_class") == "lost"
        return self._of_task(task_id, verb, **(told | fields))

    def cancel_requested(self, task_id: str) -> int:
        return self._of_task(task_id, "cancel_requested")

    def ran(self, task_id: str, spec: Fields | None = None, **fields: Any) -> int:
        """Offered, claimed and completed."""
        self.queued(task_id, spec)
        self.claimed(task_id)
        return self.ended("completed", task_id, **fields)

    def retried(self, task_id: str, delay_ms: int = 0, **fields: Any) -> int:
        said = {"error_class": "error", "error": "no", "delay_ms": delay_ms}
        return self.ended("retried", task_id, **(said | fields))

    def returned(self, task_id: str, error_class: str = "drained", **fields: Any) -> int:
        return self.ended("returned", task_id, error_class=error_class, error="no", **fields)

    def asked(self, task_id: str, text: str = "really?", **question: Any) -> int:
        return self.returned(task_id, "needs_input", question={"text": text, **question})

    def answered(self, task_id: str, answer: Any = "yes", text: str = "really?") -> None:
        """What the next offer has to say."""
        self._tasks[task_id].answers.append({"question": text, "answer": answer})

    def _task(self, task_id: str, spec: Fields | None) -> _Counts:
        task = self._tasks.get(task_id)
        if task is None:
            task = self._tasks[task_id] = _Counts({"handler": "h"}, self.at_us)
        if spec is not None:
            task.spec = {"handler": "h", **spec}
            task.lane = (spec.get("queue", "default"), spec.get("priority", "normal"))
        return task

    def _of_task(
        self, task_id: str, verb: str, lane: tuple[str, str] | None = None, **fields: Any
    ) -> int:
        queue, priority = lane or self._tasks[task_id].lane
        return self.add(f"task.{task_id}.{queue}.{priority}", verb, type=f"task.{verb}", **fields)

    # Everything else.

    def limit(self, key: str, **setting: Any) -> int:
        return self.add(f"limit.{key}", "set", key=key, **setting)

    def admitted(self, key: str, *tasks: str) -> int:
        return self.add(f"limit.{key}", "admitted", key=key, tasks=tasks)

    def budget(self, key: str, **fields: Any) -> int:
        """Set; amounts and action in `budget`."""
        return self.add(f"budget.{key}", "set", key=key, **fields)

    def exhausted(self, key: str, cost: int, **fields: Any) -> int:
        spent = {"cost_micro_usd": cost}
        said = {"key": key, "resource": "cost", "action": "hold", "spent": spent}
        return self.add(f"budget.{key}", "exhausted", **(said | fields))

    def opened(
        self, barrier_id: str, plan: Fields, parent_id: str | None = None, **fields: Any
    ) -> int:
        said = {"fan_out": plan, "digest": "d", "parent_id": parent_id}
        return self.add(f"barrier.{barrier_id}", "opened", **(said | fields))

    def released(self, barrier_id: str, opened: int, outcomes: list[int], **fields: Any) -> int:
        settled = sum(map(bool, outcomes))
        said = {
            "opened": opened,
            "expected": len(outcomes),
            "settled": settled,
            "succeeded": settled,
            "outcomes": outcomes,
        }
        return self.add(f"barrier.{barrier_id}", "released", **(said | fields))

    def abandoned(self, barrier_id: str, why: str, error: str = "no") -> int:
        return self.add(f"barrier.{barrier_id}", "abandoned", why=why, error=error)

    def started(self, agent_id: str = "a", **fields: Any) -> int:
        said = {
            "host": "h",
            "pid": 1,
            "version": "1",
            "queues": ["default"],
            "workers": 1,
            "concurrency": 1,
        }
        return self.add(f"agent.{agent_id}", "started", **(said | fields))

    def schedule(self, name: str, **rule: Any) -> int:
        return self.add(f"schedule.{name}", "set", spec={"handler": "h"}, digest="d", **rule)


def member(barrier_id: str, number: int, **spec: Any) -> Fields:
    """A member of a fan-out, to be made."""
    whole = {"handler": "h", "barrier_id": barrier_id, **spec}
    return {"task_id": f"{barrier_id}-{number}", "spec": whole, "digest": "d"}


def plan_of(barrier_id: str, count: int, *, then: bool = True, **fields: Any) -> Fields:
    """A fan-out of new members."""
    plan = {
        "count": count,
        "members": [member(barrier_id, number) for number in range(1, count + 1)],
        **fields,
    }
    if then:
        spec = {"handler": "then", "continues": barrier_id}
        plan["then"] = {"task_id": f"{barrier_id}-then", "spec": spec, "digest": "d"}
    return plan


def text_of(at_us: int) -> str:
    """An instant as events write it."""
    return instant(at_us).isoformat()
