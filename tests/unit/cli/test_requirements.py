"""Which agent is missing, in words."""

from __future__ import annotations

from typing import Any

from fleetlog.cli.overview import AgentSeen
from fleetlog.cli.requirements import missing_text
from fleetlog.schemas.specs import TaskSpec

GPU = TaskSpec(handler="h", queue="ml", requires={"gpu": "yes"})


def seen(host: str = "h1", *, state: Any = "running", **labels: str) -> AgentSeen:
    return AgentSeen(
        agent_id=host,
        host=host,
        state=state,
        queues=("ml", f"host-{host}"),
        heard_at=None,
        workers=(),
        labels=labels,
    )


def test_nothing_is_missing_where_one_has_it() -> None:
    assert missing_text([seen(gpu="no"), seen("h2", gpu="yes", os="linux")], GPU) is None
    assert missing_text([seen(state="strained", gpu="yes")], GPU) is None


def test_those_that_run_are_counted() -> None:
    wanted = "an agent with gpu=yes; "
    assert missing_text([], GPU) == f"{wanted}no agent runs"
    assert missing_text([seen(state="silent", gpu="yes")], GPU) == f"{wanted}no agent runs"
    assert missing_text([seen()], GPU) == f"{wanted}the one that runs does not have it"
    two = [seen(), seen("h2", gpu="no")]
    assert missing_text(two, GPU) == f"{wanted}none of 2 running agents has it"


def test_several_requirements_are_named_in_order() -> None:
    spec = TaskSpec(handler="h", queue="ml", requires={"os": "linux", "gpu": "yes"})
    both = missing_text([seen(gpu="yes"), seen("h2", os="linux")], spec)
    assert both == "an agent with gpu=yes, os=linux; none of 2 running agents has them"


def test_one_that_has_it_and_serves_another_queue_is_named() -> None:
    spec = TaskSpec(handler="h", queue="other", requires={"gpu": "yes"})
    assert missing_text([seen("cube", gpu="yes"), seen()], spec) == (
        "an agent with gpu=yes that serves queue other; those that have it do not: cube"
    )
