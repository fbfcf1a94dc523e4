"""Every state of a world, breadth first, and whether everything settles from each once faults stop."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

import msgspec

from simulation.worlds.world import State, Step, World

PROGRESS_STATES = 200_000
BYTES_PER_STATE = 400
"""At most; 240 to 340 were measured, with all of a state: its numbers, its place in the table, its steps."""


class Found(msgspec.Struct, kw_only=True):
    """What an exploration has shown."""

    states: int
    steps: int
    depth: int
    """Of the last state that was looked at: that many steps lead there at least."""
    elapsed_s: float
    is_complete: bool
    """Every state was seen; else the bound was reached."""
    settled: int = 0
    """States in which all has settled."""
    wrong: str = ""
    """What is not as it must be; empty: nothing."""
    story: tuple[str, ...] = ()
    """The shortest way there."""
    counts: dict[str, int] = {}
    """Different states of the world's parts."""

    def __str__(self) -> str:
        rate = self.states / max(self.elapsed_s, 1e-9)
        parts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        head = (
            f"{self.states} states{'' if self.is_complete else ' (not all)'}, {self.steps} steps,"
            f" depth {self.depth}, {self.elapsed_s:.1f} s, {rate:.0f} states/s; {parts}"
        )
        if not self.wrong:
            return head
        lines = [f"{n:3}. {text}" for n, text in enumerate(self.story, 1)]
        return "\n".join([head, f"wrong: {self.wrong}", *lines])


class Explorer:
    """Explores one world.

    Args:
        world: which.
        states_max: to stop at; memory is bounded by it, at about `BYTES_PER_STATE` each.
        tell: hears how far it is.
    """

    def __init__(
        self, world: World, *, states_max: int, tell: Callable[[str], None] | None = None
    ) -> None:
        self._world = world
        self._states_max = states_max
        self._tell = tell
        self._numbers: dict[State, int] = {world.first: 0}
        self._states: list[State] = [world.first]
        self._parents = array("I", [0])
        self._offsets = array("Q", [0])
        self._sound: array[int] = array("I")
        """The states that each state's steps lead to, faults left out, one state after the other."""
        self._step_count = 0
        self._level_end = 1
        self._depth = 0
        self._began_at = time.monotonic()

    def run(self) -> Found:
        """Explores until something is wrong, all is seen or the bound is reached."""
        at = 0
        while at < len(self._states):
            if len(self._states) > self._states_max:
                return self._found(is_complete=False)
            if at == self._level_end:
                self._depth, self._level_end = self._depth + 1, len(self._states)
            if (bad := self._expand(at)) is not None:
                return self._bad(at, bad)
            at += 1
            if self._tell is not None and not at % PROGRESS_STATES:
                self._tell(self._progress(at))
        return self._stuck() or self._found(is_complete=True)

    def _expand(self, at: int) -> Step | None:
        steps = self._world.steps(self._states[at])
        numbers, states = self._numbers, self._states
        for step in steps:
            state, _, is_fault, wrong = step
            number = numbers.get(state)
            if number is None:
                number = numbers[state] = len(states)
                states.append(state)
                self._parents.append(at)
                wrong = wrong or self._world.wrong_fold(state)
            if wrong:
                return step._replace(wrong=wrong)
            if not is_fault:
                self._sound.append(number)
        self._offsets.append(len(self._sound))
        self._step_count += len(steps)
        return None

    def _stuck(self) -> Found | None:
        """A state from which nothing settles any more, the first one if there is one."""
        count = len(self._states)
        is_good = bytearray(map(self._world.is_settled, self._states))
        has_changed = True
        while has_changed:
            has_changed = False
            # Most steps lead to states that were found later, so that one walk back does most of it.
            for at in range(count - 1, -1, -1):
                if is_good[at]:
                    continue
                for place in range(self._offsets[at], self._offsets[at + 1]):
                    if is_good[self._sound[place]]:
                        is_good[at] = has_changed = True
                        break
        bad = [at for at, good in enumerate(is_good) if not good]
        if not bad:
            return None
        # Where nothing is left to do one sees best what is missing.
        ends = (at for at in bad if self._offsets[at] == self._offsets[at + 1])
        found = self._found(is_complete=True)
        found.wrong = "not everything can settle any more, though no more faults come"
        found.story = self._story(next(ends, bad[0]))
        return found

    def _bad(self, at: int, step: Step) -> Found:
        found = self._found(is_complete=False)
        found.wrong = step.wrong
        found.story = (*self._story(at), step.text)
        return found

    def _story(self, at: int) -> tuple[str, ...]:
        texts: list[str] = []
        while at:
            parent = self._parents[at]
            wanted = self._states[at]
            steps = self._world.steps(self._states[parent])
            texts.append(next(step.text for step in steps if step.state == wanted))
            at = parent
        return tuple(reversed(texts))

    def _found(self, *, is_complete: bool) -> Found:
        settled = sum(map(self._world.is_settled, self._states)) if is_complete else 0
        return Found(
            states=len(self._states),
            steps=self._step_count,
            depth=self._depth,
            elapsed_s=time.monotonic() - self._began_at,
            is_complete=is_complete,
            settled=settled,
            counts=self._world.counts,
        )

    def _progress(self, at: int) -> str:
        elapsed_s = time.monotonic() - self._began_at
        waiting = len(self._states) - at
        memory_mb = len(self._states) * BYTES_PER_STATE / 1e6
        return (
            f"{at} states looked at, depth {self._depth}, {waiting} wait; {at / elapsed_s:.0f} states/s,"
            f" {elapsed_s:.0f} s, about {memory_mb:.0f} MB of at most"
            f" {self._states_max * BYTES_PER_STATE / 1e6:.0f}"
        )
