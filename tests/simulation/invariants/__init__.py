"""Judges a run of a whole fleet from its log alone.

Nothing in here is imported from fleetlog: the rules are written down a second time, from the design and the
decision records, so that an error of the implementation can't hide itself.
"""

from __future__ import annotations

from simulation.invariants.judge import Judge
from simulation.invariants.messages import Message, Tolerance, Violation
from simulation.invariants.rules import RULES

__all__ = ["RULES", "Judge", "Message", "Tolerance", "Violation"]
