"""Paused queues, for people."""

from __future__ import annotations

from fleetlog.bus.core.queues import QueueState
from fleetlog.cli.rendering import instant_text, one_line


def describe_pause(state: QueueState) -> str:
    """Since when a queue is paused, by whom and why, in half a sentence."""
    who = f" by {one_line(state.actor)}" if state.actor else ""
    why = f" ({one_line(state.reason)})" if state.reason else ""
    return f"paused{who} at {instant_text(state.paused_at)}{why}"
