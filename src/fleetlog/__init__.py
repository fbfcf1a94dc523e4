"""fleetlog: run fleets of agents in parallel, with every step an event in one log.

    from fleetlog import Agent, Client, call

Names are loaded when they are first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetlog.agents.answers import Cancel, GatherFailed, NeedInput, PermanentError, Retry
    from fleetlog.agents.context import Context
    from fleetlog.agents.face import Agent
    from fleetlog.bus.call import ask, call
    from fleetlog.bus.client import Client
    from fleetlog.bus.errors import FleetlogError
    from fleetlog.bus.fan_out import FanOut
    from fleetlog.bus.handles import Submitted
    from fleetlog.bus.outcomes import Outcome
    from fleetlog.bus.sync import connect
    from fleetlog.schemas.children import Child
    from fleetlog.schemas.errors import InvalidInput
    from fleetlog.schemas.specs import TaskSpec

__all__ = [
    "Agent",
    "Cancel",
    "Child",
    "Client",
    "Context",
    "FanOut",
    "FleetlogError",
    "GatherFailed",
    "InvalidInput",
    "NeedInput",
    "Outcome",
    "PermanentError",
    "Retry",
    "Submitted",
    "TaskSpec",
    "ask",
    "call",
    "connect",
]

_HOMES = {
    "Agent": "agents.face",
    "Cancel": "agents.answers",
    "Child": "schemas.children",
    "Client": "bus.client",
    "Context": "agents.context",
    "FanOut": "bus.fan_out",
    "FleetlogError": "bus.errors",
    "GatherFailed": "agents.answers",
    "InvalidInput": "schemas.errors",
    "NeedInput": "agents.answers",
    "Outcome": "bus.outcomes",
    "PermanentError": "agents.answers",
    "Retry": "agents.answers",
    "Submitted": "bus.handles",
    "TaskSpec": "schemas.specs",
    "ask": "bus.call",
    "call": "bus.call",
    "connect": "bus.sync",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("fleetlog")
    if name not in _HOMES:
        raise AttributeError(f"module 'fleetlog' has no attribute {name!r}")
    value = getattr(import_module(f"fleetlog.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
