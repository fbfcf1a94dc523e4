"""A store opens what it can, starts over where it can't, and never loses or doubles an event."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.projection_rows import rows

from fleetlog.bus.errors import ProjectionError
from fleetlog.projections.store import Store, create_store, open_store
from fleetlog.schemas.beats import Beat, StoredBeat, WorkerBeat
from fleetlog.schemas.events import Usage
from tests.unit.projections.histories import FLEET, Log, instant


def history(tasks: int = 3) -> Log:
    log = Log()
    for number in range(tasks):
        log.run(f"t{number}")
    return log


def test_a_new_store_is_empty_and_stands_before_the_log(store: Store) -> None:
    assert store.checkpoint.seq == 0
    assert rows(store, "FROM events") == []


def test_the_checkpoint_is_the_last_message(store: Store) -> None:
    log = history()
    store.apply(log.messages)
    last = log.messages[-1]
    assert store.checkpoint.seq == last.seq
    assert store.checkpoint.stored_at_ns == last.stored_at_ns
    assert store.checkpoint.subject == last.subject


def test_messages_at_or_below_the_checkpoint_are_skipped(store: Store) -> None:
    log = history()
    store.apply(log.messages[:5])
    store.apply(log.messages)
    store.apply(log.messages)
    assert [row["seq"] for row in rows(store, "SELECT seq FROM events ORDER BY seq")] == [
        *range(1, 10)
    ]
    assert len(rows(store, "FROM attempts")) == 3


def test_a_store_opened_again_goes_on_where_it_was(tmp_path: Path) -> None:
    log = history()
    path = tmp_path / "deep" / "projection.duckdb"
    first = open_store(path, FLEET)
    first.apply(log.messages[:4])
    first.close()
    again = open_store(path, FLEET)
    assert again.checkpoint.seq == 4
    again.apply(log.messages)
    assert len(rows(again, "FROM tasks WHERE state = 'completed'")) == 3
    again.close()


def test_another_fleets_database_is_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "projection.duckdb"
    other = create_store(path, "other")
    other.apply(history().messages)
    other.close()
    store = open_store(path, FLEET)
    assert store.checkpoint.seq == 0
    assert "another version or for another fleet" in caplog.text
    store.close()


def test_another_versions_database_is_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "projection.duckdb"
    old = create_store(path, FLEET)
    old.apply(history().messages)
    old._connection.execute("UPDATE store.meta SET layout = 'old'")
    old.close()
    store = open_store(path, FLEET)
    assert store.checkpoint.seq == 0
    store.close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_what_is_no_database_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "projection.duckdb"
    path.write_bytes(content)
    (tmp_path / "projection.duckdb.wal").write_bytes(b"nonsense")
    store = open_store(path, FLEET)
    store.apply(history().messages)
    store.close()
    assert (tmp_path / "projection.duckdb.broken").read_bytes() == content
    assert "could not be opened" in caplog.text


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "projection.duckdb"
    store = create_store(path, FLEET)
    store.apply(history().messages)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    again = open_store(path, FLEET)
    assert again.checkpoint.seq == 0
    again.close()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectionError, match="--data"):
        open_store(tmp_path / "file" / "projection.duckdb", FLEET)


def test_one_message_that_duckdb_cannot_take_is_kept_unread(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    # A column too narrow for one of the values stands for whatever DuckDB may stumble over.
    store._connection.execute("ALTER TABLE events ALTER attempt TYPE TINYINT")
    log = history(2)
    bad = log.messages[1]
    log.messages[1] = type(bad)(
        bad.seq, bad.stored_at_ns, bad.subject, bad.data.replace(b'"attempt":1', b'"attempt":300')
    )
    store.apply(log.messages)
    found = rows(store, "SELECT seq, problem FROM events WHERE problem IS NOT NULL")
    assert [row["seq"] for row in found] == [2]
    assert "Conversion Error" in found[0]["problem"]
    assert store.checkpoint.seq == 6
    assert "kept unread" in caplog.text


def test_after_a_failure_nothing_follows(store: Store) -> None:
    store._connection.execute("ALTER TABLE store.settled_tasks RENAME TO gone")
    log = history()
    with pytest.raises(ProjectionError):
        store.apply(log.messages[:3])
    store._connection.execute("ALTER TABLE store.gone RENAME TO settled_tasks")
    with pytest.raises(ProjectionError):
        store.apply(log.messages[3:])
    assert store.checkpoint.seq == 0


def test_heartbeats_are_a_row_per_worker_and_old_ones_go(store: Store) -> None:
    def heard(at_s: int, *workers: WorkerBeat) -> StoredBeat:
        stamp = datetime(2026, 1, 1, 0, at_s // 60, at_s % 60, tzinfo=UTC)
        beat = Beat(agent_id="a1", host="h1", occurred_at=stamp, workers=workers)
        return StoredBeat(stamp, beat)

    busy = WorkerBeat(
        worker_id="w1",
        pid=5,
        state="busy",
        running=1,
        task_id="t1",
        attempt=2,
        rss_bytes=5_000_000_000,
        cpu_s=1.25,
        usage=Usage(input_tokens=7, cost_micro_usd=1_500_000),
        output_at=datetime(2026, 1, 1, 0, 20, tzinfo=UTC),
    )
    crashed = WorkerBeat(worker_id="w2", state="backing_off", crashes=3)
    store.add_beats([heard(0)])
    store.add_beats([heard(1200, busy, crashed), heard(1201)])
    found = rows(store, "FROM heartbeats ORDER BY stored_at, worker_id NULLS FIRST")
    assert [(r["worker_id"], r["worker_state"], r["running"], r["crashes"]) for r in found] == [
        ("w1", "busy", 1, 0),
        ("w2", "backing_off", 0, 3),
        (None, None, None, None),
    ]
    assert (found[1]["cost_micro_usd"], found[1]["rss_bytes"]) == (None, None)
    assert found[0] == {
        "agent_id": "a1",
        "host": "h1",
        "stored_at": instant(1_767_226_800_000_000),
        "state": "running",
        "worker_id": "w1",
        "pid": 5,
        "worker_state": "busy",
        "task_id": "t1",
        "attempt": 2,
        "running": 1,
        "output_at": instant(1_767_226_800_000_000),
        "input_tokens": 7,
        "output_tokens": 0,
        "cost_micro_usd": 1_500_000,
        "rss_bytes": 5_000_000_000,
        "cpu_s": 1.25,
        "crashes": 0,
    }


def test_digests_show_any_difference_but_not_heartbeats(store: Store, tmp_path: Path) -> None:
    log = history()
    other = create_store(tmp_path / "other.duckdb", FLEET)
    store.apply(log.messages)
    for message in log.messages:
        other.apply([message])
    stamp = datetime(2026, 1, 1, tzinfo=UTC)
    other.add_beats([StoredBeat(stamp, Beat(agent_id="a", host="h", occurred_at=stamp))])
    assert store.digests() == other.digests()
    assert "heartbeats" not in store.digests()
    assert store.digests()["events"].rows == 9
    other._connection.execute("UPDATE events SET priority = 'low' WHERE seq = 4")
    assert store.digests()["events"] != other.digests()["events"]
    assert store.digests()["tasks"] == other.digests()["tasks"]
    other.close()


def test_a_store_says_little_when_all_is_well(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        store.apply(history().messages)
    assert caplog.text == ""
