"""What a command leads to when it leads to no event, and what every event of a command carries."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from fleetlog.bus.core.commands import Command
from fleetlog.bus.core.task import Task

RefusalCode = Literal[
    "exists",  # the id or key is there, and the caller wants it new
    "duplicate",  # the same task was submitted before: the caller has what it wanted
    "key_taken",  # the id or key belongs to another payload
    "not_found",  # no such task
    "already_settled",  # nothing can change it any more
    "cancel_pending",  # its end has been asked for already
    "stale_offer",  # the offer was taken and done with, or offered anew
    "offer_held",  # a living holder may be running this offer
    "lease_lost",  # the live claim is another one
    "not_asked",  # it does not wait for this answer, or not any more
    "not_a_choice",  # the answer is none of those that it asked for
    "not_due",  # its time has not come, or it is past waiting
    "unreadable",  # its first event cannot be understood by this version
]


class Refusal(msgspec.Struct, frozen=True):
    """Why a command leads to no event; nothing was or will be written for it."""

    code: RefusalCode
    """For programs."""
    task: Task
    """The state it was decided in."""


def stamp(command: Command, now: datetime) -> dict[str, Any]:
    """The fields that the event has from its command."""
    return {
        "id": command.id,
        "occurred_at": now,
        "cause": command.cause,
        "actor": command.actor,
        "reason": command.reason,
    }
