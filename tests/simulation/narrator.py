"""A run in plain words: who did what when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from simulation.invariants import Violation
from simulation.server import EPOCH_NS
from simulation.stream import NS, Kept

SAYS = {
    "held": "is held",
    "queued": "is offered, attempt {attempt}",
    "claimed": "is claimed by {agent_id} {worker_id}, offer {offer}",
    "retried": "has failed and is tried again after {delay_ms} ms: {error_class}",
    "returned": "goes back without counting: {error_class}",
    "completed": "has completed, fence {fence}",
    "failed": "has failed: {error_class}",
    "cancelled": "is cancelled: {reason}",
    "expired": "has expired: {limit}",
    "cancel_requested": "shall end: {reason}",
    "admitted": "lets in {tasks}",
    "released": "is released",
    "opened": "is opened",
    "abandoned": "is abandoned: {reason}",
}
WIDTH = 200


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "-"


def told(
    happened: Sequence[tuple[float, str]], log: Sequence[Kept], violations: Sequence[Violation]
) -> Iterator[str]:
    """What happened, and of the log what concerns the violations; in the order of time."""
    wanted = _things(log, violations)
    lines = [(at, f"          {text}") for at, text in happened]
    for kept in log:
        _, _, kind, thing, *_ = kept.subject.split(".")
        if thing in wanted:
            at = (kept.at_ns - EPOCH_NS) / NS
            lines.append((at, f"event {kept.seq:4} {kind} {thing} {_said(kept)}"))
    lines.sort(key=lambda line: line[0])
    yield from (f"{at:9.3f} s  {text[:WIDTH]}" for at, text in lines)
    yield from (f"wrong: {each.rule}: {each.text}" for each in violations)


def _things(log: Sequence[Kept], violations: Sequence[Violation]) -> set[str]:
    """Whom the violations speak of."""
    words = {word.strip(",.;:'\"") for each in violations for word in each.text.split()}
    seqs = {each.seq for each in violations}
    found = set()
    for kept in log:
        thing = kept.subject.split(".")[3]
        if thing in words or kept.seq in seqs:
            found.add(thing)
    return found


def _said(kept: Kept) -> str:
    verb = kept.subject.rsplit(".", 1)[1]
    event = json.loads(kept.data)
    return SAYS.get(verb, verb).format_map(_Missing(event))
