"""An overview for people."""

from __future__ import annotations

from fleetlog.agents.strains import strains_text
from fleetlog.cli.overview import AgentSeen, LostAgent, Overview, PausedCredential
from fleetlog.cli.pauses import describe_pause
from fleetlog.cli.rendering import aligned, instant_text, one_line
from fleetlog.schemas.beats import WorkerBeat


def describe(seen: Overview) -> str:
    """What `fleetlog status` prints."""
    parts = [
        f"fleet {seen.fleet!r} at {seen.url}, durability {seen.durability}, {seen.log_end} events",
        _coordinator_text(seen),
        _projector_text(seen),
        _agents_text(seen.agents),
        *(_lost_text(lost) for lost in seen.lost),
        _queues_text(seen),
        *(f"queue        {queue.queue} is {describe_pause(queue)}" for queue in seen.paused),
    ]
    if seen.open_barriers:
        parts.append(
            f"barriers     {seen.open_barriers} open, see `fleetlog barrier list --state open`"
        )
    if seen.needs_input:
        parts.append(
            f"questions    {seen.needs_input} wait for an answer, see `fleetlog task list --needs-input`"
        )
    parts += [_credential_text(paused) for paused in seen.credentials]
    if seen.last_minute is not None:
        outcomes = ", ".join(f"{count} {state}" for state, count in seen.last_minute.items())
        parts.append(f"last minute  {outcomes}")
    parts.append("ready" if seen.lack is None else f"not ready: {seen.lack}")
    return "\n".join(parts)


def _credential_text(paused: PausedCredential) -> str:
    until = "until someone resumes it" if paused.until is None else instant_text(paused.until)
    return (
        f"credential   {paused.credential} is paused ({until}), tasks that need it wait:"
        f" {paused.error_class}, {one_line(paused.error)}"
    )


def _coordinator_text(seen: Overview) -> str:
    if seen.coordinator is None:
        return "coordinator  none is active: delayed, retried and late tasks, and those of lost agents, wait"
    return f"coordinator  {seen.coordinator.coordinator_id} on {one_line(seen.coordinator.host)} is active"


def _projector_text(seen: Overview) -> str:
    if seen.projector is None:
        return "projector    none answers, so that queues and outcomes are not known here"
    lag = "up to date" if not seen.projector.lag else f"{seen.projector.lag} events behind"
    return f"projector    {lag} (seq {seen.projector.seq})"


def _agents_text(agents: tuple[AgentSeen, ...]) -> str:
    if not agents:
        return "agents       none"
    lines = []
    for agent in agents:
        lines.append(
            f"agent        {agent.agent_id} on {one_line(agent.host)}, {agent.state},"
            f"{_pool_text(agent)} queues {', '.join(agent.queues)}"
        )
        if agent.strains:
            lines.append(f"  takes nothing new: short of {strains_text(agent.strains)}")
        lines += [f"  {_worker_text(worker)}" for worker in agent.workers]
    return "\n".join(lines)


def _lost_text(lost: LostAgent) -> str:
    return (
        f"lost         {lost.agent_id} on {one_line(lost.host)} at {instant_text(lost.lost_at)}, silent for"
        f" {lost.silent_s:.1f} s: what it ran was given back"
    )


def _pool_text(agent: AgentSeen) -> str:
    kept = f" {agent.reserve_high} reserved for high," if agent.reserve_high else ""
    if agent.workers_max is None:
        return kept
    count = sum(worker.state != "stopping" for worker in agent.workers)
    return f" workers {count} of {agent.workers_min}-{agent.workers_max},{kept}"


def _worker_text(worker: WorkerBeat) -> str:
    if worker.state == "backing_off":
        return f"worker {worker.worker_id} crashed, {worker.crashes} in a row: the next one waits a little"
    text = f"worker {worker.worker_id} (pid {worker.pid}) {worker.state}"
    if worker.rss_bytes is not None:
        text += f", {worker.rss_bytes / 2**20:.0f} MiB, {worker.cpu_s or 0:.1f} s of CPU"
    if worker.task_id is not None:
        text += f": task {worker.task_id}, attempt {worker.attempt}"
    if worker.running > 1:
        text += f" and {worker.running - 1} more"
    if worker.usage is not None:
        text += f", ${worker.usage.cost_micro_usd / 1_000_000:.4f} so far"
    return text


def _queues_text(seen: Overview) -> str:
    if not seen.queues:
        return "queues       nothing waits or runs" if seen.queues is not None else "queues       ?"
    names = ("queue", "priority", "held", "queued", "claimed", "waiting")
    return aligned(names, [[str(row[name]) for name in names] for row in seen.queues])
