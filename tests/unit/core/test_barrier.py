"""When a barrier is released, and when it can be no more."""

from __future__ import annotations

from typing import Any

import pytest

from fleetlog.bus.core.barrier import Tally, verdict, why_released
from fleetlog.schemas.fan_outs import FanOutSpec


def plan(policy: Any, quorum: int | None = None) -> FanOutSpec:
    return FanOutSpec(count=4, policy=policy, quorum=quorum)


@pytest.mark.parametrize(
    ("policy", "settled", "succeeded", "expected"),
    [
        ("settled", 3, 3, "wait"),
        ("settled", 4, 0, "release"),
        ("all", 3, 3, "wait"),
        ("all", 4, 4, "release"),
        ("all", 1, 0, "fail"),
        ("any", 0, 0, "wait"),
        ("any", 3, 0, "wait"),
        ("any", 2, 1, "release"),
        ("any", 4, 0, "fail"),
        ("quorum", 2, 1, "wait"),
        ("quorum", 2, 2, "release"),
        ("quorum", 3, 0, "fail"),
        ("quorum", 2, 0, "wait"),
    ],
)
def test_the_policy_decides(policy: str, settled: int, succeeded: int, expected: str) -> None:
    quorum = 2 if policy == "quorum" else None
    assert verdict(plan(policy, quorum), Tally(4, settled, succeeded)) == expected


@pytest.mark.parametrize(
    ("policy", "succeeded", "expected"),
    [
        ("settled", 0, "release"),
        ("all", 3, "fail"),
        ("any", 0, "fail"),
        ("any", 1, "release"),
        ("quorum", 1, "fail"),
        ("quorum", 2, "release"),
    ],
)
def test_after_the_deadline_what_is_open_counts_as_never_completed(
    policy: str, succeeded: int, expected: str
) -> None:
    quorum = 2 if policy == "quorum" else None
    assert verdict(plan(policy, quorum), Tally(4, 3, succeeded), is_over=True) == expected


@pytest.mark.parametrize(
    ("policy", "settled", "begins"),
    [
        ("settled", 3, "the deadline passed: 3 of 4 settled, 2 completed"),
        ("settled", 4, "all have settled: "),
        ("all", 4, "all have completed: "),
        ("any", 4, "one has completed: "),
        ("quorum", 4, "2 have completed: "),
    ],
)
def test_the_reason_says_how_far_the_members_are(policy: str, settled: int, begins: str) -> None:
    quorum = 2 if policy == "quorum" else None
    assert why_released(plan(policy, quorum), Tally(4, settled, 2)).startswith(begins)
