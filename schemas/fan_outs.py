"""A fan-out: every task that a barrier waits for, named together, and what follows when they have settled."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id, derived_id, key_id
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.specs import PositiveMs, TaskSpec, check_spec, payload_digest, under_budgets

MEMBERS_MAX: Final = 50_000
"""A barrier waits for no more."""

Policy = Literal[
    "settled",  # the continuation runs when every member has settled, and sees each outcome
    "all",  # it runs if all have completed, and fails as soon as one has not
    "any",  # it runs as soon as one has completed
    "quorum",  # it runs as soon as so many have completed
]
Stragglers = Literal["cancel", "wait"]
"""What becomes of members that are open when the barrier has ended: they are cancelled, or go on."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that a barrier waits for."""

    task_id: str
    """Derived from the barrier's id, or from its key; or that of a task that is there already."""
    spec: TaskSpec | None = None
    """The whole task, with `barrier_id` and `parent_id`; None for one that is there already."""
    digest: str = ""
    """`payload_digest` of the spec, from before large arguments were taken out of it."""


class FanOutSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a fan-out, as the one event holds it that opens its barrier."""

    count: Annotated[int, Meta(ge=0, le=MEMBERS_MAX)]
    """How many members."""
    members: tuple[Member, ...] = ()
    """In order; empty when they are too large for an event."""
    members_ref: ObjectRef | None = None
    """Where the members are then: a JSON array."""
    policy: Policy = "settled"
    """When the continuation runs."""
    quorum: Annotated[int, Meta(ge=1, le=MEMBERS_MAX)] | None = None
    """How many must have completed, for `quorum`."""
    stragglers: Stragglers = "cancel"
    """What becomes of members that are open when it has ended."""
    deadline_ms: PositiveMs | None = None
    """From opened on; then members that are open are cancelled, and the policy decides."""
    then: Member | None = None
    """The continuation, its spec with `continues`; None: nothing follows."""


def member_id(barrier_id: str, position: int, spec: TaskSpec) -> str:
    """The id of the member at a position, counted from 1."""
    return key_id(spec.key) if spec.key is not None else derived_id(barrier_id, position)


def is_member_id(barrier_id: str, task_id: str, spec: TaskSpec) -> bool:
    """Whether a fan-out with this id would have given the task's spec this id."""
    if spec.key is not None:
        return task_id == key_id(spec.key)
    head, _, position = task_id.rpartition("-")
    return position.isdecimal() and head == derived_id(barrier_id, "").removesuffix("-")


def needed_count(plan: FanOutSpec) -> int:
    """How many members must have completed for the continuation to run."""
    match plan.policy:
        case "settled":
            return 0
        case "all":
            return plan.count
        case "any":
            return 1
        case _:
            return plan.quorum or 1


def plan_fan_out(  # noqa: PLR0913 - what a fan-out consists of
    barrier_id: str,
    members: Sequence[TaskSpec | str],
    *,
    then: TaskSpec | None = None,
    policy: Policy = "settled",
    quorum: int | None = None,
    stragglers: Stragglers = "cancel",
    deadline_ms: int | None = None,
    parent_id: str | None = None,
) -> FanOutSpec:
    """The plan of a fan-out, checked; its members are in it, however large.

    Args:
        barrier_id: the barrier's.
        members: specs of tasks to make, or ids of tasks that are there already.
        then: the continuation.
        policy: when it runs.
        quorum: for `quorum`, how many must have completed.
        stragglers: what becomes of open members at the end.
        deadline_ms: from opened on.
        parent_id: the task that fans out, if one does.

    Raises:
        InvalidInput: a member or the continuation is not allowed, two members are the same task, or the policy
            could never be met.
    """
    check_id(barrier_id, "barrier id")
    if len(members) > MEMBERS_MAX:
        raise InvalidInput(
            f"a fan-out has at most {MEMBERS_MAX} members, not {len(members)}: fan out in several levels"
        )
    if (quorum is not None) != (policy == "quorum"):
        raise InvalidInput("a quorum goes with the policy `quorum`, and that with a quorum")
    planned = [_member(barrier_id, n, each, parent_id) for n, each in enumerate(members, 1)]
    _check_distinct(planned)
    _check_not_itself(barrier_id, planned, parent_id)
    plan = FanOutSpec(
        count=len(planned),
        members=tuple(planned),
        policy=policy,
        quorum=quorum,
        stragglers=stragglers,
        deadline_ms=deadline_ms,
        then=_continuation(barrier_id, then, parent_id),
    )
    if needed_count(plan) > plan.count:
        raise InvalidInput(
            f"the policy {policy} needs {needed_count(plan)} of {plan.count} members: it can never be met"
        )
    return plan


def plan_under_budgets(plan: FanOutSpec, keys: Sequence[str]) -> FanOutSpec:
    """The plan, its members and continuation under the budgets of the task that fans out."""
    if not keys:
        return plan

    def under(member: Member) -> Member:
        if member.spec is None:
            return member
        return msgspec.structs.replace(member, spec=under_budgets(member.spec, keys))

    return msgspec.structs.replace(
        plan,
        members=tuple(map(under, plan.members)),
        then=under(plan.then) if plan.then is not None else None,
    )


def plan_digest(plan: FanOutSpec) -> str:
    """22 characters that are the same for the same fan-out: its members' payloads, policy and continuation."""
    hashed = hashlib.sha256(f"{plan.policy}\0{plan.quorum}".encode())
    for member in plan.members:
        hashed.update(f"\0{member.task_id}\0{member.digest}".encode())
    if plan.then is not None:
        hashed.update(f"\0{plan.then.task_id}\0{plan.then.digest}".encode())
    return urlsafe_b64encode(hashed.digest()[:16]).decode().rstrip("=")


def _member(
    barrier_id: str, position: int, member: TaskSpec | str, parent_id: str | None
) -> Member:
    if isinstance(member, str):
        return Member(check_id(member, "task id"))
    try:
        check_spec(member)
    except InvalidInput as error:
        raise InvalidInput(f"member {position}: {error}") from error
    if member.continues is not None:
        raise InvalidInput(f"member {position}: a continuation can't be a member too")
    spec = msgspec.structs.replace(
        member, barrier_id=barrier_id, parent_id=member.parent_id or parent_id
    )
    return Member(member_id(barrier_id, position, member), spec, payload_digest(member))


def _continuation(barrier_id: str, then: TaskSpec | None, parent_id: str | None) -> Member | None:
    if then is None:
        return None
    check_spec(then)
    if then.key is not None:
        raise InvalidInput("a continuation can't have a key: its id is its barrier's")
    if then.after:
        raise InvalidInput(
            "a continuation waits for its barrier alone: make what it is to come after members"
        )
    if then.continues is not None or then.barrier_id is not None:
        raise InvalidInput("a continuation can't be part of another fan-out")
    spec = msgspec.structs.replace(
        then, continues=barrier_id, parent_id=then.parent_id or parent_id
    )
    return Member(derived_id(barrier_id, "then"), spec, payload_digest(then))


def _check_not_itself(barrier_id: str, members: Sequence[Member], parent_id: str | None) -> None:
    forbidden = {barrier_id, derived_id(barrier_id, "then"), parent_id}
    for position, member in enumerate(members, 1):
        if member.task_id in forbidden:
            raise InvalidInput(
                f"member {position}: {member.task_id} would wait for itself: leave it out"
            )


def _check_distinct(members: Sequence[Member]) -> None:
    places: dict[str, int] = {}
    for position, member in enumerate(members, 1):
        if (first := places.setdefault(member.task_id, position)) != position:
            raise InvalidInput(
                f"members {first} and {position} are one task, {member.task_id}: give each its own key"
            )
