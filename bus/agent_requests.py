"""What can be asked of an agent from any machine, by a request to the service that each agent answers."""

from __future__ import annotations

import msgspec

from fleetlog.bus.errors import Unavailable
from fleetlog.bus.services import Services


class DrainRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Take nothing new, finish what runs or give it back, and end."""

    actor: str | None = None
    """Who asks."""
    reason: str | None = None
    """Why."""
    is_restart: bool = False
    """Start anew afterwards."""


class DrainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The agent drains."""

    running: int
    """Attempts that it still has."""
    is_new: bool
    """It did not drain before this request."""


def service_of(agent_id: str) -> str:
    """The name under which one agent answers."""
    return f"agent-{agent_id}"


async def ask_drain(
    services: Services, agent_id: str, request: DrainRequest, *, timeout_s: float
) -> DrainAnswer:
    """Asks an agent to drain; when this returns, it will. Safe to repeat.

    Raises:
        Unavailable: the agent does not answer; it may drain all the same.
    """
    payload = msgspec.json.encode(request)
    async for chunk in services.request(service_of(agent_id), payload, timeout_s=timeout_s):
        return msgspec.json.decode(chunk, type=DrainAnswer)
    raise Unavailable(f"agent {agent_id} gave no answer: ask again")
