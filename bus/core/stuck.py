"""Which offers are stuck: their task is queued, and nobody has them or will be given them.

An offer is a message of its lane's consumer. An agent that acknowledges one without claiming it, or a consumer
that someone made to begin above it, leaves a task that no agent hears of. The log doesn't tell, only the
consumer does, and even that one not of each offer: the rule counts. It may be wrong where agents acknowledge
what they run, and then it costs an event, for the older offer of a task is stale.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime

import msgspec

from fleetlog.bus.core.commands import OfferAgain
from fleetlog.bus.core.task import Task
from fleetlog.schemas.subjects import Priority


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a lane's consumer is; all are sequences of the log but the last."""

    delivered: int
    """What is above has been given to nobody yet."""
    ack_floor: int
    """What is at or below will be given to nobody any more."""
    unacked: int
    """So many offers, all between the two, were given to someone, or back, and are not acknowledged."""


class LaneTasks(msgspec.Struct):
    """Of one lane, at one moment."""

    queued: list[Task]
    """Those that have been on offer for long."""
    claimed: list[Task]
    """All that run."""


def suspects(tasks: Iterable[Task], before: datetime) -> dict[tuple[str, Priority], LaneTasks]:
    """The lanes with tasks on offer since `before` or longer, by queue and priority of the offers' subjects."""
    groups: dict[Hashable, LaneTasks] = {}
    for task in tasks:
        is_old = task.status == "queued" and task.since is not None and task.since <= before
        if is_old or task.status == "claimed":
            group = groups.setdefault(_group(task), LaneTasks([], []))
            (group.queued if is_old else group.claimed).append(task)
    lanes: dict[tuple[str, Priority], LaneTasks] = {}
    for group in groups.values():
        lane = lanes.setdefault(_lane((group.queued or group.claimed)[0]), LaneTasks([], []))
        lane.queued += group.queued
        lane.claimed += group.claimed
    return {lane: of_lane for lane, of_lane in lanes.items() if of_lane.queued}


def stuck(lane: LaneTasks, progress: Progress, tasks: Mapping[str, Task]) -> list[Task]:
    """Those of the lane's queued tasks that have to be offered again.

    Args:
        lane: as it was before the consumer was asked.
        progress: what it answered.
        tasks: those that are not settled, after the log was read to an end asked for after the answer. What has
            changed in between proves nothing; what has not was so when the consumer answered.
    """
    floor = progress.ack_floor
    held = sum(_is_held(task, floor, tasks.get(task.id)) for task in lane.claimed)
    # Each attempt keeps its offer unacknowledged. If there are no others, none of a queued task is.
    limit = progress.delivered if progress.unacked <= held else floor
    return [task for task in lane.queued if task.offer <= limit and _is_same(task, tasks)]


def offer_again(task: Task) -> OfferAgain:
    """The command for a task whose offer is stuck; two coordinators that find it so do the same act."""
    return OfferAgain(
        id=f"{task.id}-{task.version}-again",
        offer=task.offer,
        host=task.host,
        reason="its offer was stuck: no agent had it, and none would have got it",
    )


def _group(task: Task) -> Hashable:
    """The same only for tasks of one lane; that one's name is dear where they require something."""
    assert task.spec is not None
    spec = task.spec
    return spec.queue, spec.priority, task.host, tuple(spec.requires.items())


def _lane(task: Task) -> tuple[str, Priority]:
    assert task.spec is not None
    return task.spec.on_host(task.host).offered_on, task.spec.priority


def _is_held(task: Task, floor: int, later: Task | None) -> bool:
    if task.lease is None or later is None or later.lease is None:
        return False
    return task.lease.offer > floor and later.lease.fence == task.lease.fence


def _is_same(task: Task, tasks: Mapping[str, Task]) -> bool:
    later = tasks.get(task.id)
    return later is not None and later.version == task.version
