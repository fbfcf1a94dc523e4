"""What a measurement says."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    what: str
    """What was measured."""
    durability: str
    """Of the server it was measured on: `always` or `relaxed`."""
    value: float
    """The figure."""
    unit: str
    """Its unit."""
    ratio: float | None = None
    """To `baseline`, in the same run."""
    baseline: str | None = None
    """What it is compared with."""
    bar: float | None = None
    """What `judged` should reach; None when there is no bar."""
    is_most: bool = False
    """The bar is the most that is allowed, not the least."""
    is_ratio_judged: bool = True
    """Whether the bar is for the ratio; else it is for the value."""

    @property
    def is_reached(self) -> bool | None:
        """Whether the bar holds; None without one."""
        judged = self.ratio if self.is_ratio_judged else self.value
        if self.bar is None or judged is None:
            return None
        return judged <= self.bar if self.is_most else judged >= self.bar
