"""Who can run a task that requires something of its agent, in words."""

from __future__ import annotations

from collections.abc import Sequence

from fleetlog.bus.fleet import Fleet
from fleetlog.cli.failures import say
from fleetlog.cli.overview import AgentSeen, look_at_agents
from fleetlog.schemas.requirements import requirements_text, satisfies
from fleetlog.schemas.specs import TaskSpec


async def note_missing(fleet: Fleet, spec: TaskSpec) -> None:
    """Says on stderr if no running agent can take a task that was just accepted."""
    if not spec.requires:
        return
    if (missing := missing_text(await look_at_agents(fleet), spec)) is not None:
        say(f"it waits for {missing}")


async def agent_text(fleet: Fleet, spec: TaskSpec) -> str:
    """What kind of agent a queued task waits for, and whether there is one."""
    missing = missing_text(await look_at_agents(fleet), spec)
    wanted = requirements_text(spec.requires)
    return missing or f"an agent with {wanted} and a free slot for queue {spec.queue}"


def missing_text(agents: Sequence[AgentSeen], spec: TaskSpec) -> str | None:
    """The agent that is missing, such as `an agent with gpu=yes; none of 3 running agents has it`; None if
    there is one.
    """
    running = [agent for agent in agents if agent.state != "silent"]
    fitting = [agent for agent in running if satisfies(agent.labels, spec.requires)]
    if any(spec.queue in agent.queues for agent in fitting):
        return None
    wanted = f"an agent with {requirements_text(spec.requires)}"
    if fitting:
        hosts = ", ".join(sorted({agent.host for agent in fitting}))
        return f"{wanted} that serves queue {spec.queue}; those that have it do not: {hosts}"
    them = "it" if len(spec.requires) == 1 else "them"
    if not running:
        return f"{wanted}; no agent runs"
    if len(running) == 1:
        return f"{wanted}; the one that runs does not have {them}"
    return f"{wanted}; none of {len(running)} running agents has {them}"
