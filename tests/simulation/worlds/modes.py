"""How agents are: up, standing still, gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

UP: Final = 0
PAUSED: Final = 1
CRASHED: Final = 2
RESUMED: Final = 3
"""Up again; it believes what it believed before."""
LOST: Final = 4
"""A coordinator has recorded its loss: should it live, it goes on with what it runs, and takes nothing new."""
TOUCHED: Final = 8
"""Something has befallen it. All that were never touched are one like the other."""


class Mode(NamedTuple):
    """How all agents are, each answer by agent."""

    number: int
    is_up: tuple[bool, ...]
    takes: tuple[bool, ...]
    """New tasks; of those never touched only the first."""
    is_silent: tuple[bool, ...]
    """Others have evidence that it is gone."""
    has_lived: tuple[bool, ...]
    """It was never silent, so that nobody may think it dead."""
    is_lost: tuple[bool, ...]
    touched: tuple[int, ...]
    """The number of the modes after something befalls it."""


class Change(NamedTuple):
    """What may befall an agent."""

    number: int
    """Of the modes after it."""
    text: str
    budget: str = ""
    is_loss: bool = False
    """A coordinator records it."""


class Modes:
    """All modes of a world's agents, by number."""

    def __init__(self, count: int) -> None:
        self.names = tuple(f"a{n + 1}" for n in range(count))
        self.first = 0
        self._known: dict[int, Mode] = {}
        self._changes: dict[tuple[int, int], list[Change]] = {}

    def of(self, number: int) -> Mode:
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self._read(number)
        return found

    def changes(self, mode: Mode, agent: int) -> list[Change]:
        """What may befall it."""
        key = mode.number, agent
        found = self._changes.get(key)
        if found is None:
            found = self._changes[key] = list(self._possible(mode, agent))
        return found

    def _possible(self, mode: Mode, agent: int) -> Iterator[Change]:
        bits = (mode.number >> 4 * agent) & 15
        state = bits & 3
        if not bits & TOUCHED and not self._is_next(mode.number, agent):
            return
        if state in (UP, RESUMED):
            yield Change(self._with(mode, agent, bits & ~3 | CRASHED), "crashes", "crashes")
            yield Change(self._with(mode, agent, bits & ~3 | PAUSED), "stands still", "pauses")
        if state == PAUSED:
            text = "goes on as if nothing had happened"
            yield Change(self._with(mode, agent, bits & ~3 | RESUMED), text)
        if state != UP and not bits & LOST:
            text = "was silent for long: a coordinator records that it is lost"
            yield Change(self._with(mode, agent, bits | LOST), text, is_loss=True)

    def _with(self, mode: Mode, agent: int, bits: int) -> int:
        rest = mode.number & ~(15 << 4 * agent)
        return rest | (bits | TOUCHED) << 4 * agent

    def _is_next(self, number: int, agent: int) -> bool:
        return all((number >> 4 * each) & TOUCHED for each in range(agent))

    def _read(self, number: int) -> Mode:
        bits = [(number >> 4 * agent) & 15 for agent in range(len(self.names))]
        is_up = [each & 3 in (UP, RESUMED) for each in bits]
        near = [
            bool(each & TOUCHED) or self._is_next(number, agent) for agent, each in enumerate(bits)
        ]
        return Mode(
            number,
            tuple(is_up),
            tuple(
                up and not each & LOST and close
                for up, each, close in zip(is_up, bits, near, strict=True)
            ),
            tuple(not up or bool(each & LOST) for up, each in zip(is_up, bits, strict=True)),
            tuple(each & 7 == UP for each in bits),
            tuple(bool(each & LOST) for each in bits),
            tuple(number | TOUCHED << 4 * agent for agent in range(len(self.names))),
        )
