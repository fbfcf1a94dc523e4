"""What a fan-out may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleetlog.schemas import fan_outs as module
from fleetlog.schemas.children import Child
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import (
    is_member_id,
    member_id,
    needed_count,
    plan_digest,
    plan_fan_out,
    plan_under_budgets,
)
from fleetlog.schemas.ids import derived_id, key_id
from fleetlog.schemas.specs import TaskSpec, payload_digest

ONE = TaskSpec(handler="one")
TWO = TaskSpec(handler="two", key="k")


def test_a_plan_names_everything_that_follows_from_it() -> None:
    then = TaskSpec(handler="then")
    plan = plan_fan_out("b", [ONE, TWO, "there"], then=then, parent_id="p")
    assert [m.task_id for m in plan.members] == ["b-1", key_id("k"), "there"]
    first, second, third = plan.members
    assert first.spec == msgspec.structs.replace(ONE, barrier_id="b", parent_id="p")
    assert (first.digest, second.digest) == (payload_digest(ONE), payload_digest(TWO))
    assert third.spec is None
    assert plan.then is not None
    assert plan.then.task_id == "b-then"
    assert plan.then.spec == msgspec.structs.replace(then, continues="b", parent_id="p")
    assert plan_fan_out("b", [msgspec.structs.replace(ONE, parent_id="q")], parent_id="p").members[
        0
    ].spec == msgspec.structs.replace(ONE, barrier_id="b", parent_id="q")


@pytest.mark.parametrize(
    ("members", "fields", "says"),
    [
        ([TaskSpec(handler="")], {}, "member 1: "),
        ([ONE, TaskSpec(handler="h", continues="x")], {}, "member 2: a continuation"),
        (["not an id"], {}, "task id"),
        ([TWO, TWO], {}, "members 1 and 2 are one task"),
        (["b"], {}, "member 1: b would wait for itself"),
        (["b-then"], {}, "would wait for itself"),
        (["p"], {"parent_id": "p"}, "would wait for itself"),
        ([ONE], {"then": TaskSpec(handler="t", key="k")}, "can't have a key"),
        ([ONE], {"then": TaskSpec(handler="t", after=("x",))}, "waits for its barrier alone"),
        ([ONE], {"then": TaskSpec(handler="t", continues="x")}, "part of another fan-out"),
        ([ONE], {"then": TaskSpec(handler="")}, "handler"),
        ([ONE], {"policy": "quorum"}, "a quorum goes with"),
        ([ONE], {"quorum": 1}, "a quorum goes with"),
        ([ONE], {"policy": "quorum", "quorum": 2}, "needs 2 of 1 members: it can never be met"),
        ([], {"policy": "any"}, "can never be met"),
    ],
)
def test_what_is_not_allowed_is_refused(
    members: list[Any], fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        plan_fan_out("b", members, **fields)


def test_there_is_a_most_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMBERS_MAX", 2)
    with pytest.raises(InvalidInput, match="at most 2 members, not 3"):
        plan_fan_out("b", [ONE, ONE, ONE])


@pytest.mark.parametrize(
    ("policy", "quorum", "needed"),
    [("settled", None, 0), ("all", None, 3), ("any", None, 1), ("quorum", 2, 2)],
)
def test_how_many_must_complete(policy: Any, quorum: int | None, needed: int) -> None:
    assert needed_count(plan_fan_out("b", [ONE] * 3, policy=policy, quorum=quorum)) == needed


def test_the_digest_is_that_of_the_work() -> None:
    same = [plan_fan_out("b", [ONE, TWO], then=ONE, stragglers=s) for s in ("cancel", "wait")]  # type: ignore[arg-type]
    others = [
        plan_fan_out("b", [ONE, TWO]),
        plan_fan_out("b", [TWO, ONE], then=ONE),
        plan_fan_out("b", [ONE, TWO], then=ONE, policy="all"),
        plan_fan_out("b", [ONE, TWO], then=TaskSpec(handler="x")),
    ]
    digests = [plan_digest(each) for each in (*same, *others)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


@pytest.mark.parametrize("barrier_id", ["b", "b-2-then", "x" * 128])
def test_members_are_known_by_their_ids(barrier_id: str) -> None:
    assert is_member_id(barrier_id, member_id(barrier_id, 12, ONE), ONE)
    assert is_member_id(barrier_id, member_id(barrier_id, 1, TWO), TWO)
    for other in ("b-then", f"{derived_id(barrier_id, 1)}-r1", "b2-1", "-1", "1"):
        assert not is_member_id(barrier_id, other, ONE)
        assert not is_member_id(barrier_id, other, TWO)


def test_a_child_that_is_open_has_not_completed() -> None:
    assert Child(task_id="t", state="completed").is_completed
    assert not Child(task_id="t", state="open").is_completed


def test_everything_of_a_plan_is_under_the_budgets_of_who_fans_out() -> None:
    members = [ONE, TaskSpec(handler="own", budgets=("own", "b1")), "there"]
    plan = plan_fan_out("b", members, then=TaskSpec(handler="then"))
    assert plan_under_budgets(plan, ()) is plan
    under = plan_under_budgets(plan, ("b1", "b2"))
    assert [m.spec and m.spec.budgets for m in under.members] == [
        *(("b1", "b2"), ("b1", "b2", "own")),
        None,
    ]
    assert under.then is not None
    assert under.then.spec is not None
    assert under.then.spec.budgets == ("b1", "b2")
    assert plan_digest(under) == plan_digest(plan)
    assert plan_under_budgets(plan_fan_out("b", [ONE]), ("b1",)).then is None
