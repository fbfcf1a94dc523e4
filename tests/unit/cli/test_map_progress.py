"""The line that says how a map goes."""

from __future__ import annotations

from collections import Counter

from fleetlog.cli.map_progress import RATE_WINDOW_S, MapProgress
from fleetlog.cli.tally import Tally


class _Tasks:
    """The states of tasks, as they are set."""

    def __init__(self, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self._total = total

    def __len__(self) -> int:
        return self._total

    @property
    def open_count(self) -> int:
        return self._total - self.counts["completed"] - self.counts["failed"]


def words(progress: MapProgress, now_s: float) -> str:
    return "  ".join(progress.words(now_s))


def test_submitting_has_a_rate_and_a_time_left() -> None:
    tally = Tally("m", 400)
    progress = MapProgress(tally, None)
    assert words(progress, 0.0) == "submitted 0/400  0.0/s"
    tally.submitted = 100
    assert words(progress, 1.0) == "submitted 100/400  100/s  0:03 left"
    tally.total = None
    assert words(progress, 2.0) == "submitted 100  50/s"


def test_outcomes_have_counts_failures_and_a_time_left() -> None:
    tasks = _Tasks(100)
    progress = MapProgress(Tally("m", 100, submitted=100), tasks)  # type: ignore[arg-type] - what it reads of it
    words(progress, 0.0)
    tasks.counts.update(claimed=7, completed=8, failed=2)
    assert (
        words(progress, 5.0) == "submitted 100/100  running 7  done 8  failed 2  2.0/s  0:45 left"
    )


def test_a_pause_shows_in_the_rate() -> None:
    tally = Tally("m", 1_000_000)
    progress = MapProgress(tally, None)
    rates = []
    for second in range(31):
        tally.submitted = 10 * min(second, 10)
        rates.append(progress.words(float(second))[1])
    assert rates[10] == "10/s"
    assert rates[15] == "5.0/s"
    assert rates[10 + int(RATE_WINDOW_S)] == "0.0/s"


def test_hours_are_told_as_such() -> None:
    tally = Tally("m", 10_000)
    progress = MapProgress(tally, None)
    progress.words(0.0)
    tally.submitted = 1
    assert progress.words(1.0)[-1] == "2:46:39 left"
