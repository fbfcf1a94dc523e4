"""A projection that says something else than the fold is found."""

from __future__ import annotations

import pytest
from simulation.fleet import NAME
from simulation.invariants import Message
from simulation.projected import differences
from simulation.story import Story

from fleetlog.projections import store
from fleetlog.projections.statements import statement

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.mark.parametrize(
    ("step", "right", "wrong", "told"),
    [
        (
            "read_specs",
            "is_without_timeout THEN NULL",
            "false THEN NULL",
            "shows timeout_ms 3600000",
        ),
        ("merge_limits", "k.admissions + n.admissions", "n.admissions", "how the log was cut"),
    ],
)
def test_a_step_that_is_wrong_is_found(
    monkeypatch: pytest.MonkeyPatch, step: str, right: str, wrong: str, told: str
) -> None:
    story = Story(8, 25)
    assert story.run() == []

    def planted(name: str) -> str:
        text = statement(name)
        assert name != f"steps/{step}" or right in text
        return text.replace(right, wrong) if name == f"steps/{step}" else text

    monkeypatch.setattr(store, "statement", planted)
    log = [Message(*kept) for kept in story.world.log]
    found = differences(0, NAME, log, story.world.objects)
    assert {violation.rule for violation in found} == {"projection"}
    assert any(told in violation.text for violation in found)
