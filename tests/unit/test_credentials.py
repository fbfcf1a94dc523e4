"""The rules of a credential's pauses, on the log in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fleetlog.bus.core.credential import (
    LONGER,
    Credential,
    credential_of,
    decide_pause,
    decide_resume,
    evolve_credential,
)
from fleetlog.bus.credentials import load_credential, load_credentials, pause, resume
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import CredentialPaused, CredentialResumed
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import credentials

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def paused(until: datetime | None, name: str = "e1") -> CredentialPaused:
    return CredentialPaused(
        id=name, occurred_at=NOW, error_class="usage_limit", error="limit", until=until
    )


def resumed(name: str = "r1") -> CredentialResumed:
    return CredentialResumed(id=name, occurred_at=NOW)


def after(*events: CredentialPaused | CredentialResumed) -> Credential:
    credential = Credential(name="claude")
    for seq, event in enumerate(events, 1):
        credential = evolve_credential(credential, Recorded(seq, NOW, None, event))
    return credential


def test_it_is_paused_until_its_time() -> None:
    credential = after(paused(NOW + HOUR))
    assert credential.is_paused(NOW)
    assert credential.is_paused(NOW + HOUR - timedelta(microseconds=1))
    assert not credential.is_paused(NOW + HOUR)
    assert after(paused(None)).is_paused(NOW + 10_000 * HOUR)
    assert not after(paused(None), resumed()).is_paused(NOW)


def test_an_event_that_was_seen_already_changes_nothing() -> None:
    credential = after(paused(NOW + HOUR), resumed())
    assert evolve_credential(credential, Recorded(1, NOW, None, paused(None))) == credential


def test_an_event_that_cannot_be_read_moves_the_version_alone() -> None:
    credential = after(paused(NOW + HOUR))
    unread = UnknownEvent("credential.melted", "of a newer version")
    moved = evolve_credential(credential, Recorded(2, NOW, None, unread))
    assert (moved.version, moved.pause) == (2, credential.pause)


@pytest.mark.parametrize(
    ("stands", "wanted", "is_appended"),
    [
        (None, NOW + HOUR, True),
        (NOW + HOUR, NOW + HOUR, False),
        (NOW + HOUR, NOW + HOUR + LONGER, False),
        (NOW + HOUR, NOW + 2 * HOUR, True),
        (NOW + 2 * HOUR, NOW + HOUR, False),
        (NOW - HOUR, NOW + HOUR, True),
        (NOW + HOUR, None, True),
    ],
)
def test_only_a_longer_pause_is_another_event(
    stands: datetime | None, wanted: datetime | None, is_appended: bool
) -> None:
    credential = after(paused(stands)) if stands is not None else Credential(name="claude")
    event = decide_pause(paused(wanted, "e2"), credential, NOW)
    assert (event is not None) == is_appended


def test_a_pause_without_end_is_not_made_shorter() -> None:
    assert decide_pause(paused(NOW + HOUR), after(paused(None)), NOW) is None


def test_before_its_time_only_a_person_resumes_it() -> None:
    credential = after(paused(NOW + HOUR))
    assert decide_resume(resumed(), credential, NOW, is_forced=False) is None
    assert decide_resume(resumed(), credential, NOW, is_forced=True) == resumed()
    assert decide_resume(resumed(), credential, NOW + HOUR, is_forced=False) == resumed()
    assert decide_resume(resumed(), after(), NOW, is_forced=True) is None


async def test_fifty_that_find_out_the_same_write_one_event() -> None:
    log = MemoryLog("f")
    until = log.now() + HOUR
    found = await asyncio.gather(*(pause(log, "claude", paused(until, f"e{n}")) for n in range(50)))
    assert len({each.version for each in found}) == 1
    events = [stored async for page in log.read(subjects=credentials("f")) for stored in page]
    assert len(events) == 1
    assert (await load_credential(log, "claude")).is_paused(log.now())


async def test_pauses_of_one_do_not_touch_another() -> None:
    log = MemoryLog("f")
    await pause(log, "claude", paused(None))
    await pause(log, "codex", paused(None, "e2"))
    await resume(log, "claude", resumed())
    known = await load_credentials(log)
    assert {name: each.is_paused(log.now()) for name, each in known.items()} == {
        "claude": False,
        "codex": True,
    }


async def test_a_name_that_is_no_token_is_refused() -> None:
    with pytest.raises(InvalidInput, match="credential"):
        await pause(MemoryLog("f"), "my key", paused(None))


def test_which_credential_a_task_needs() -> None:
    def of(executor: str, args: bytes = b"{}") -> str | None:
        return credential_of(TaskSpec(handler="h", executor=executor, args=msgspec.Raw(args)))

    assert of("python") is None
    assert of("command", b'{"credential": "other"}') is None
    assert of("claude") == "claude"
    assert of("claude", b'{"credential": "other"}') == "other"
    # A foreign writer's: whatever its arguments are, it is of its executor.
    assert of("claude", b'{"credential": 7}') == "claude"
    assert of("claude", b"no JSON") == "claude"
