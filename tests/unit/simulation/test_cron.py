"""Two readings of cron texts that share no code agree: the judge's, and the one that counts ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from simulation.invariants.cron import is_instant, read_cron

from fleetlog.bus.core.cron import next_cron

TEXTS = (
    *("* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */2 * * *", "5/20 2 * * *"),
    *("0 3 * * sun", "45 1,2 29 3 *", "0 2 1-7 * mon", "*/20 3 * oct,apr 0,7", "10 2 */2 * 1-5/2"),
)
CHANGES = (
    ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 2, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 10, tzinfo=UTC)),
    ("UTC", datetime(2026, 6, 1, tzinfo=UTC)),
)
HOURS = 14


@pytest.mark.parametrize(("zone", "start"), CHANGES)
@pytest.mark.parametrize("text", TEXTS)
def test_both_readings_find_the_same_instants(text: str, zone: str, start: datetime) -> None:
    cron = read_cron(text)
    assert cron is not None
    minutes = [start + timedelta(minutes=n) for n in range(1, HOURS * 60 + 1)]
    looked_at = [at for at in minutes if is_instant(cron, ZoneInfo(zone), at)]
    counted = []
    at = next_cron(text, zone, start)
    while at is not None and at <= minutes[-1]:
        counted.append(at)
        at = next_cron(text, zone, at)
    assert looked_at == counted


@pytest.mark.parametrize(
    "text", ["0 0 L * *", "* * * *", "x * * * *", "9-5 * * * *", "*/0 * * * *"]
)
def test_what_is_not_plain_is_not_judged(text: str) -> None:
    assert read_cron(text) is None
