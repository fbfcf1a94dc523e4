"""How Python's cyclic garbage collector runs in processes whose objects live and die by the thousand."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 20_000
"""New containers between two looks at the young ones; Python's own 700 looks at every attempt many times."""


def calm_collector() -> None:
    """Looks at new objects less often.

    With a thousand attempts in hand the collector took a tenth of an agent's time and found nothing: their
    objects end by reference counts. Cycles are still found, later.
    """
    gc.set_threshold(YOUNG_MAX, 20, 20)
