"""What goes beside the log."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from fleetlog.schemas.beats import Beat, OutputChunk, StoredBeat, WorkerBeat

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDLE = WorkerBeat(worker_id="w1", state="idle")
BUSY = WorkerBeat(worker_id="w2", pid=7, state="busy", running=2, task_id="t1", attempt=3)


@pytest.mark.parametrize(
    "said",
    [
        Beat(agent_id="a1", host="h1", occurred_at=NOW),
        Beat(agent_id="a1", host="h1", occurred_at=NOW, state="draining", workers=(IDLE, BUSY)),
        OutputChunk(stream="stdout", text="é\n", occurred_at=NOW),
        OutputChunk(stream="progress", text="half", occurred_at=NOW, pct=50.0),
    ],
)
def test_beats_and_output_read_back_as_they_were(said: Beat | OutputChunk) -> None:
    assert msgspec.json.decode(msgspec.json.encode(said), type=type(said)) == said


def test_a_beat_of_an_idle_agent_is_short() -> None:
    beat = Beat(agent_id="a1", host="h1", occurred_at=NOW)
    assert msgspec.json.encode(beat) == (
        b'{"agent_id":"a1","host":"h1","occurred_at":"2026-01-01T00:00:00Z"}'
    )


def test_a_beat_without_a_time_zone_is_refused() -> None:
    data = b'{"agent_id":"a1","host":"h1","occurred_at":"2026-01-01T00:00:00"}'
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        msgspec.json.decode(data, type=Beat)


def test_a_stored_beat_goes_by_the_servers_time() -> None:
    beat = Beat(agent_id="a1", host="h1", occurred_at=NOW)
    assert StoredBeat(stored_at=NOW, beat=beat).beat is beat
