"""How many more tasks can start at once, where slots are reserved for high ones."""

from __future__ import annotations

import pytest

from fleetlog.bus.core.rooms import Load, room_for
from fleetlog.schemas.subjects import Priority

NONE: dict[Priority, int] = {}


@pytest.mark.parametrize(
    ("loads", "offered", "low", "high"),
    [
        ([], NONE, 0, 0),
        ([Load(4, 1), Load(2, 3)], NONE, 3, 3),
        ([Load(4, 1)], {"low": 2, "high": 2}, -1, -1),
        ([Load(4, 0, 2)], NONE, 2, 4),
        ([Load(4, 2, 2)], NONE, 0, 2),
        # High tasks that run have used the reserve up, or some of it.
        ([Load(4, 2, 2, 1)], NONE, 1, 2),
        ([Load(4, 3, 2, 3)], NONE, 1, 1),
        # So will those on offer.
        ([Load(4, 0, 2)], {"high": 1}, 2, 3),
        ([Load(4, 0, 2)], {"high": 3}, 1, 1),
        ([Load(4, 0, 2)], {"normal": 1, "low": 1}, 0, 2),
        # What one agent keeps takes nothing from another.
        ([Load(2, 2, 1), Load(2, 0)], NONE, 2, 2),
        ([Load(2, 1, 1), Load(2, 0, 1)], NONE, 1, 3),
    ],
)
def test_what_is_reserved_is_no_room_for_others(
    loads: list[Load], offered: dict[Priority, int], low: int, high: int
) -> None:
    assert room_for("low", loads, offered) == low
    assert room_for("normal", loads, offered) == low
    assert room_for("high", loads, offered) == high
