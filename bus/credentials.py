"""Credentials of a fleet: which are paused, and how to pause and resume them from any process."""

from __future__ import annotations

from collections.abc import Callable

from fleetlog.bus.core.credential import (
    Credential,
    decide_pause,
    decide_resume,
    evolve_credential,
)
from fleetlog.bus.errors import ConflictError
from fleetlog.bus.log import EventLog, entry
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import CredentialEvent, CredentialPaused, CredentialResumed, verb_of
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import Subject, credentials, guard


def take(known: dict[str, Credential], stored: Stored) -> None:
    """Folds one message of `subjects.credentials` into what is known."""
    record = open_stored(stored)
    if record.subject is not None:
        name = record.subject.id
        known[name] = evolve_credential(known.get(name, Credential(name=name)), record)


async def load_credentials(log: EventLog) -> dict[str, Credential]:
    """All credentials that the log tells of, by name."""
    known: dict[str, Credential] = {}
    async for page in log.read(subjects=credentials(log.fleet)):
        for stored in page:
            take(known, stored)
    return known


async def load_credential(log: EventLog, name: str) -> Credential:
    """One credential as the log tells it now."""
    known: dict[str, Credential] = {}
    for stored in await log.read_thing(guard(log.fleet, "credential", name)):
        take(known, stored)
    return known.get(name, Credential(name=name))


async def pause(log: EventLog, name: str, wanted: CredentialPaused) -> Credential:
    """Pauses a credential, unless it is paused for as long already; answers what stands then."""
    return await _append(log, name, lambda known: decide_pause(wanted, known, log.now()))


async def resume(
    log: EventLog, name: str, wanted: CredentialResumed, *, is_forced: bool = True
) -> Credential:
    """Ends a credential's pause; with `is_forced` false only one whose time is over."""
    return await _append(
        log, name, lambda known: decide_resume(wanted, known, log.now(), is_forced=is_forced)
    )


async def _append(
    log: EventLog, name: str, decide: Callable[[Credential], CredentialEvent | None]
) -> Credential:
    check_id(name, "credential")
    while True:
        known = await load_credential(log, name)
        event = decide(known)
        if event is None:
            return known
        subject = Subject(log.fleet, "credential", name, verb_of(event))
        try:
            await log.append(entry(subject, known.version, event))
        except ConflictError:
            continue
        return await load_credential(log, name)
