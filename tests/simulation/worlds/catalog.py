"""The worlds that are explored: small ones in every run of the tests, the others when there is time."""

from __future__ import annotations

from typing import Final

from simulation.worlds.beginning import Plan

SMALL: Final = {
    "a crash and a delivery too many, nobody but the agents": Plan(
        coordinators=0, crashes=1, duplicates=1, losses=1
    ),
    "three agents, of whom two find the first one dead": Plan(
        agents=3, crashes=1, duplicates=1, is_prompt=True
    ),
    "an agent that stands still and comes back": Plan(pauses=1, duplicates=1),
    "an agent that comes back to a task that someone wants to end": Plan(
        pauses=1, cancels=1, is_prompt=True
    ),
    "retries and attempts given back, two coordinators": Plan(
        coordinators=2, endings=("complete", "fail", "return"), max_attempts=2, returns=1
    ),
    "one key, submitted twice": Plan(submitters=2, losses=1, duplicates=1),
    "a replicated server": Plan(is_replicated=True, crashes=1, cancels=1),
    "a barrier, two coordinators with old folds": Plan(tasks=3, barriers=1, coordinators=2),
    "a barrier whose writer may be slow or dead": Plan(
        tasks=2, barriers=1, unmade=2, takeovers=1, is_batching=True
    ),
    "a barrier that needs all, and a crash": Plan(
        tasks=2, barriers=1, coordinators=2, policy="all", endings=("complete", "fail"), crashes=1
    ),
    "a barrier that needs one, its stragglers cancelled": Plan(
        tasks=3, barriers=1, policy="any", is_batching=True
    ),
    "a barrier that a client ends": Plan(
        tasks=2, barriers=1, abandons=1, cancels=1, takeovers=1, is_batching=True
    ),
    "a barrier whose deadline passes, and a crash": Plan(
        tasks=2, barriers=1, deadlines=1, crashes=1
    ),
    "a task after two others": Plan(tasks=3, gates=1, coordinators=2, endings=("complete", "fail")),
    "a task after another one, and a coordinator that begins anew": Plan(
        tasks=2, gates=1, endings=("complete", "fail"), crashes=1, takeovers=1
    ),
    "a coordinator is followed by another one while an agent is lost": Plan(
        crashes=1, takeovers=1, endings=("complete", "fail"), max_attempts=2
    ),
}
"""Together some seconds."""

MIDDLING: Final = {
    "two members, two coordinators, a crash": Plan(tasks=3, barriers=1, coordinators=2, crashes=1),
    "a barrier that needs both of its members, and a crash": Plan(
        tasks=3, barriers=1, policy="all", endings=("complete", "fail"), crashes=1
    ),
    "a replicated server, and all that befalls one task": Plan(
        coordinators=2, is_replicated=True, crashes=1, duplicates=1, losses=1, cancels=1
    ),
    "one key, submitted twice, and all that befalls one task": Plan(
        submitters=2, crashes=1, losses=1, cancels=1
    ),
}
"""Together two minutes."""

LARGE: Final = {
    "the whole: two members, two coordinators, a crash, a delivery too many, a lost answer": Plan(
        tasks=3, barriers=1, coordinators=2, crashes=1, duplicates=1, losses=1
    ),
    "a barrier that a client ends, while an agent stands still": Plan(
        tasks=2, barriers=1, coordinators=2, pauses=1, duplicates=1, abandons=1
    ),
    "three agents, a crash and one that stands still": Plan(
        agents=3, coordinators=2, crashes=1, pauses=1, duplicates=1
    ),
    "a barrier that needs one, attempts that fail, clients that end": Plan(
        tasks=3, barriers=1, policy="any", endings=("complete", "fail"), abandons=1, cancels=1
    ),
    "a slow writer, two coordinators, batches": Plan(
        tasks=2,
        barriers=1,
        coordinators=2,
        policy="any",
        endings=("complete", "fail"),
        unmade=2,
        crashes=1,
        is_batching=True,
    ),
}
"""As long as it takes: `make worlds`."""
