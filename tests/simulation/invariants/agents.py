"""Agents: they live once, claim what they can run, and tell of results that came too late."""

from __future__ import annotations

from typing import Any

from simulation.invariants.attempts import Claim
from simulation.invariants.messages import Entry, Report
from simulation.invariants.story import Step, Story


class Agents:
    """All agents and their workers.

    Args:
        report: where violations go.
        stories: all tasks; kept by the caller.
        claims: all claims by fence; kept by the caller.
        bereft: see `Tolerance`.
    """

    def __init__(
        self,
        report: Report,
        stories: dict[str, Story],
        claims: dict[int, Claim],
        bereft: frozenset[str] = frozenset(),
    ) -> None:
        self._report = report
        self._bereft = bereft
        self._stories = stories
        self._claims = claims
        self._started: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, set[str]] = {}

    def take(self, entry: Entry) -> None:
        """An event of an agent."""
        agent_id, verb, seq = entry.id, entry.verb, entry.seq
        if verb == "started":
            if agent_id in self._started:
                self._report("agent.life", seq, f"agent {agent_id} starts again at {seq}")
            self._started[agent_id] = entry.event
        elif agent_id not in self._started and agent_id not in self._bereft:
            self._report("agent.life", seq, f"agent {agent_id} is {verb} at {seq}, never started")
        if verb in ("stopped", "lost"):
            ended = self._ended.setdefault(agent_id, set())
            # An agent that was held for lost may still say that it stopped.
            if verb in ended or (verb == "lost" and ended):
                text = f"agent {agent_id} has ended, and is {verb} at {seq}"
                self._report("agent.life", seq, text)
            ended.add(verb)

    def take_step(self, step: Step) -> None:
        """A claim."""
        entry, story = step.entry, step.story
        agent = self._started.get(story.agent_id)
        if agent is None:
            return
        queue = story.spec.get("queue", "default")
        labels = {"host": agent.get("host"), **agent.get("labels", {})}
        requires = story.spec.get("requires", {})
        missing = [name for name, value in requires.items() if labels.get(name) != value]
        is_of_host = entry.event.get("host") == agent.get("host")
        if queue not in agent.get("queues", ()) or missing or not is_of_host:
            text = (
                f"agent {story.agent_id} claims task {story.id} at {entry.seq}: queue {queue}, host"
                f" {entry.event.get('host')}, labels that it lacks: {missing}"
            )
            self._report("claim.agent", entry.seq, text)

    def take_worker(self, entry: Entry) -> None:
        """An event of a worker."""
        if entry.verb != "refused" or entry.id in self._bereft:
            return
        event, seq = entry.event, entry.seq
        fence, task_id = event.get("fence", 0), event.get("task_id", "")
        claim = self._claims.get(fence)
        if claim != Claim(task_id, entry.id, event.get("attempt", 0)):
            text = f"{seq} refuses fence {fence} of task {task_id}, which {entry.id} never had"
            self._report("claim.refused", seq, text)
        elif self._stories[task_id].fence == fence:
            text = f"{seq} refuses fence {fence} of task {task_id}, which is live"
            self._report("claim.refused", seq, text)
