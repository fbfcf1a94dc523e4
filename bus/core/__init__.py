"""The rules of a task's life as pure functions: `decide`, `evolve`, `due`, `resume`.

No clock, randomness or I/O in here: instants, ids and jitter are arguments. Client, agents, coordinator and the
verification of projections all use these same functions.
"""

from fleetlog.bus.core.agent import AgentState, evolve_agent
from fleetlog.bus.core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    Expire,
    Fail,
    Hold,
    OfferAgain,
    Queue,
    RequestCancel,
    Return,
    Submit,
)
from fleetlog.bus.core.decide import decide
from fleetlog.bus.core.due import due, expires_at, next_due_at, resume
from fleetlog.bus.core.evolve import evolve, permits
from fleetlog.bus.core.refusal import Refusal, RefusalCode
from fleetlog.bus.core.task import LOSSES_MAX, Lease, Status, Task

__all__ = [
    "LOSSES_MAX",
    "AgentState",
    "Cancel",
    "Claim",
    "Command",
    "Complete",
    "Expire",
    "Fail",
    "Hold",
    "Lease",
    "OfferAgain",
    "Queue",
    "Refusal",
    "RefusalCode",
    "RequestCancel",
    "Return",
    "Status",
    "Submit",
    "Task",
    "decide",
    "due",
    "evolve",
    "evolve_agent",
    "expires_at",
    "next_due_at",
    "permits",
    "resume",
]
