"""How an attempt ended, as the command that records it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from fleetlog.agents import endings
from fleetlog.agents.endings import End, Why
from fleetlog.agents.frames import (
    Cancelled,
    Deferred,
    Done,
    Failed,
    Limited,
    Outcome,
    Stopped,
    Succeeded,
)
from fleetlog.agents.worker_process import WorkerDied
from fleetlog.bus.core import Cancel, Complete, Fail, Lease, Return, Task
from fleetlog.bus.errors import ObjectLost, Unavailable
from fleetlog.schemas.events import Usage
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES
from fleetlog.schemas.specs import TaskSpec

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LEASE = Lease(fence=7, offer=6, attempt=1, agent_id="a", worker_id="w1", host="h", claimed_at=NOW)
TASK = Task(
    id="t",
    status="claimed",
    version=7,
    lease=LEASE,
    spec=TaskSpec(handler="h", timeout_ms=90_000, silence_ms=5_000),
)


def end(why: Why | None = None) -> End:
    return End(id="e", task=TASK, why=why, jitter=0.5)


def done(outcome: Outcome) -> Done:
    return Done(7, outcome, 12, 3, Usage(output_tokens=1))


BASE: dict[str, Any] = {
    "id": "e",
    "fence": 7,
    "ran_ms": 12,
    "exit_code": 3,
    "usage": Usage(output_tokens=1),
}


def test_a_success_is_recorded_even_when_the_attempt_had_been_asked_to_stop() -> None:
    for why in (None, "timeout", "cancel", "drain", "silence", "lost"):
        ending = endings.of_done(end(why), done(Succeeded(b"[1]")))  # type: ignore[arg-type]
        assert isinstance(ending, Complete)
        assert bytes(ending.result) == b"[1]"
        assert ending.usage == Usage(output_tokens=1)


def test_a_failure_keeps_its_class_wish_and_permanence() -> None:
    ending = endings.of_done(end(), done(Failed("error", "no", is_permanent=True, delay_ms=9)))
    assert ending == Fail(
        error_class="error", error="no", is_permanent=True, delay_ms=9, jitter=0.5, **BASE
    )


def test_deferred_is_returned_without_blame() -> None:
    ending = endings.of_done(end(), done(Deferred("later", 50)))
    assert ending == Return(error_class="deferred", error="later", delay_ms=50, **BASE)


def test_an_attempt_whose_credential_is_used_up_is_returned_until_it_can_be_used_again() -> None:
    limited = Limited("usage_limit", "resets at 5", NOW, "claude", 90_000)
    ending = endings.of_done(end(), done(limited))
    assert ending == Return(error_class="usage_limit", error="resets at 5", delay_ms=90_000, **BASE)


def test_the_session_of_an_agent_cli_is_recorded_however_the_attempt_ended() -> None:
    for outcome in (Succeeded(b"1"), Failed("error", "no"), Stopped(), Cancelled("moot")):
        said = msgspec.structs.replace(done(outcome), session_id="s1")
        assert endings.of_done(end(), said).session_id == "s1"


def test_a_handler_may_call_its_task_off() -> None:
    assert endings.of_done(end(), done(Cancelled("moot"))) == Cancel(reason="moot", **BASE)


def test_an_attempt_that_ended_with_its_worker_s_own_end_is_returned() -> None:
    ending = endings.of_done(end(), done(Stopped()))
    assert isinstance(ending, Return)
    assert ending.error_class == "drained"


@pytest.mark.parametrize(
    ("why", "kind", "error_class", "words"),
    [
        ("timeout", Fail, "timeout", "1m30s"),
        ("silence", Fail, "silence", "5s"),
        ("drain", Return, "drained", "told to stop"),
        ("cancel", Cancel, None, None),
        ("lost", Return, "lost", None),
    ],
)
@pytest.mark.parametrize("outcome", [Stopped(), Failed("error", "x"), Deferred("x", 1)])
def test_a_stopped_attempt_ends_for_the_reason_it_was_stopped(
    why: Why, kind: type, error_class: str | None, words: str | None, outcome: Outcome
) -> None:
    for ending in (
        endings.of_done(end(why), done(outcome)),
        endings.of_death(end(why), WorkerDied("w1", None, 9), 5, is_wanted=True),
    ):
        assert type(ending) is kind
        assert getattr(ending, "error_class", None) == error_class
        assert words is None or words in ending.error  # type: ignore[union-attr]


def test_a_crash_counts_and_carries_how_the_worker_died() -> None:
    by_signal = endings.of_death(end(), WorkerDied("w1", None, 9), 5, is_wanted=False)
    by_code = endings.of_death(end(), WorkerDied("w1", 4, None), 5, is_wanted=False)
    assert isinstance(by_signal, Fail)
    assert (by_signal.error_class, by_signal.exit_code, by_signal.ran_ms) == ("crash", -9, 5)
    assert isinstance(by_code, Fail)
    assert by_code.exit_code == 4


def test_an_attempt_whose_worker_was_ended_for_another_is_returned() -> None:
    ending = endings.of_death(end(), WorkerDied("w1", None, 15), 5, is_wanted=True)
    assert isinstance(ending, Return)
    assert ending.error_class == "crash"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (b'"' + b"x" * PAYLOAD_MAX_BYTES + b'"', "bytes"),
        (b"[" * 200 + b"]" * 200, "nest"),
        (b'"\xff"', "valid JSON"),
        (b"nope", "valid JSON"),
    ],
)
def test_a_result_that_could_not_be_read_back_fails_for_good(result: bytes, words: str) -> None:
    ending = endings.of_done(end(), done(Succeeded(result)))
    assert isinstance(ending, Fail)
    assert (ending.error_class, ending.is_permanent) == ("unreadable_result", True)
    assert words in ending.error


def test_an_attempt_that_cannot_be_handed_over_fails_for_good() -> None:
    ending = endings.of_refused_run(end(), "too large")
    assert isinstance(ending, Fail)
    assert (ending.error_class, ending.is_permanent) == ("invalid_input", True)


@pytest.mark.parametrize(
    ("error", "kind", "error_class", "is_permanent"),
    [
        (ObjectLost("no object"), Fail, "arguments_lost", True),
        (Unavailable("no answer"), Return, "store_unavailable", None),
    ],
)
def test_without_its_arguments_an_attempt_fails_for_good_or_comes_again(
    error: Exception, kind: type, error_class: str, is_permanent: bool | None
) -> None:
    ending = endings.of_missing_arguments(end(), error)
    assert type(ending) is kind
    assert getattr(ending, "error_class", None) == error_class
    assert getattr(ending, "is_permanent", None) == is_permanent
    assert str(error) in getattr(ending, "error", "")


def test_an_attempt_that_was_stopped_while_it_waited_for_its_arguments_was_stopped() -> None:
    ending = endings.of_missing_arguments(end("drain"), TimeoutError())
    assert isinstance(ending, Return)
    assert ending.error_class == "drained"
