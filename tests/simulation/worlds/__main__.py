"""`make worlds`: explores the large worlds, or those whose names are given in part."""

from __future__ import annotations

import sys

from simulation.worlds.catalog import LARGE, MIDDLING, SMALL
from simulation.worlds.explorer import BYTES_PER_STATE, Explorer
from simulation.worlds.world import World

STATES_MAX = 40_000_000


def main() -> int:
    wanted = sys.argv[1:]
    plans = SMALL | MIDDLING | LARGE if wanted else LARGE
    bound_gb = STATES_MAX * BYTES_PER_STATE / 1e9
    print(f"stops at {STATES_MAX} states of one world, about {bound_gb:.0f} GB of memory")
    wrong = 0
    for name, plan in plans.items():
        if wanted and not any(part in name for part in wanted):
            continue
        print(f"{name}:", flush=True)
        found = Explorer(World(plan), states_max=STATES_MAX, tell=tell).run()
        print(found, flush=True)
        wrong += bool(found.wrong) or not found.is_complete
    return 1 if wrong else 0


def tell(progress: str) -> None:
    print(f"  {progress}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
