"""What a map says of what it has submitted."""

from __future__ import annotations

from typing import Any

from fleetlog.bus.handles import Submitted
from fleetlog.cli.tally import Tally


def test_nothing_is_said_to_be_submitted_only_where_that_is_known() -> None:
    tally = Tally("m", None)
    assert tally.describe() == "nothing was submitted"
    cut_short = tally.describe(is_cut_short=True)
    assert cut_short.startswith(
        "no task was confirmed yet; what was on its way has the label map=m"
    )
    assert "labels['map'] = 'm'" in cut_short


def test_tasks_are_told_with_the_first_and_the_last() -> None:
    client: Any = None
    tally = Tally("m", None)
    for n in (1, 2):
        tally.note(Submitted(client, f"t{n}", n, is_duplicate=n == 2))
    assert tally.describe().startswith(
        "2 tasks are in the log, 1 of them from before: from t1 to t2, with the label map=m."
    )
    assert tally.describe(is_cut_short=True) == tally.describe()
