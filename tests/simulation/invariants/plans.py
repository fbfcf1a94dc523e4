"""What a fan-out names, and whether it may name it so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from simulation.invariants.messages import Entry, Report
from simulation.invariants.names import derived_id, key_id

_POLICIES: Final = frozenset({"settled", "all", "any", "quorum"})


class Plans:
    """Reads plans and lists of outcomes, also those that stand in the object store.

    Args:
        report: where violations go.
        objects: what stands or stood there, by digest; what is missing here is not judged.
    """

    def __init__(self, report: Report, objects: Mapping[str, bytes]) -> None:
        self._report = report
        self._objects = objects

    def members(
        self, entry: Entry, plan: dict[str, Any]
    ) -> dict[str, dict[str, Any] | None] | None:
        """The members in order, with their specs; None if they are not known here."""
        named = plan.get("members", [])
        if (ref := plan.get("members_ref")) is not None:
            data = self._objects.get(ref["sha256"])
            if data is None:
                return None
            named = msgspec.json.decode(data)
        wrong = [*_wrong_in_whole(entry.id, plan, named), *_wrong_members(entry.id, named)]
        if wrong:
            text = f"fan-out {entry.id} at {entry.seq} is not right: {'; '.join(wrong)}"
            self._report("barrier.plan", entry.seq, text)
        return {each["task_id"]: each.get("spec") for each in named}

    def outcomes(self, event: dict[str, Any]) -> list[int] | None:
        """The outcomes that a release tells; None if they are not known here."""
        told: list[int] = event.get("outcomes", [])
        if (ref := event.get("outcomes_ref")) is not None:
            data = self._objects.get(ref["sha256"])
            return msgspec.json.decode(data, type=list[int]) if data is not None else None
        return told


def _wrong_in_whole(
    barrier_id: str, plan: dict[str, Any], named: list[dict[str, Any]]
) -> list[str]:
    wrong = []
    policy, count = plan.get("policy", "settled"), plan["count"]
    if count != len(named):
        wrong.append(f"it counts {count} members and names {len(named)}")
    if len({each["task_id"] for each in named}) != len(named):
        wrong.append("it names a member twice")
    if policy not in _POLICIES or (plan.get("quorum") is not None) != (policy == "quorum"):
        wrong.append(f"its policy is {policy} with quorum {plan.get('quorum')}")
    if {"any": 1, "quorum": plan.get("quorum") or 1}.get(policy, 0) > count:
        wrong.append(f"{policy} of {count} can never be met")
    if then := plan.get("then"):
        spec = then.get("spec", {})
        if then["task_id"] != derived_id(barrier_id, "then") or spec.get("continues") != barrier_id:
            wrong.append(f"{then['task_id']} is no continuation of it")
    return wrong


def _wrong_members(barrier_id: str, named: list[dict[str, Any]]) -> list[str]:
    wrong = []
    for position, member in enumerate(named, 1):
        spec = member.get("spec")
        if spec is None:
            continue
        key = spec.get("key")
        wanted = key_id(key) if key is not None else derived_id(barrier_id, position)
        if member["task_id"] != wanted or spec.get("barrier_id") != barrier_id:
            wrong.append(f"member {position} is {member['task_id']}, not {wanted}")
    return wrong
