"""A credential's life: paused while its service takes nothing, until an instant or until someone says so.

Pure, as all rules: `decide_pause` and `decide_resume` say what to append, `evolve_credential` what it makes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import CredentialPaused, CredentialResumed
from fleetlog.schemas.specs import TaskSpec

LONGER: Final = timedelta(seconds=30)
"""A pause that would end later by less than this is the same pause."""


_NEED_NONE: Final = frozenset({"python", "command"})


class _Named(msgspec.Struct):
    credential: str | None = None


_named_decoder: Final = msgspec.json.Decoder(_Named)


def credential_of(spec: TaskSpec) -> str | None:
    """The credential that an attempt will use; None when its executor needs none."""
    if spec.executor in _NEED_NONE:
        return None
    try:
        return _named_decoder.decode(spec.args).credential or spec.executor
    except (msgspec.DecodeError, UnicodeDecodeError):
        return spec.executor


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential, as the log tells of it."""

    name: str
    """Unique within the fleet."""
    version: int = 0
    """Sequence of its last event; 0 before the first."""
    pause: CredentialPaused | None = None
    """The pause that stands, whether or not its time is over."""

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing may use it."""
        return self.pause is not None and (self.pause.until is None or self.pause.until > now)


def evolve_credential(credential: Credential, record: Recorded) -> Credential:
    """The credential after `record`; what is not about a pause changes the version alone."""
    if record.seq <= credential.version:
        return credential
    match record.event:
        case CredentialPaused():
            return msgspec.structs.replace(credential, version=record.seq, pause=record.event)
        case CredentialResumed():
            return msgspec.structs.replace(credential, version=record.seq, pause=None)
        case _:
            return msgspec.structs.replace(credential, version=record.seq)


def decide_pause(
    wanted: CredentialPaused, credential: Credential, now: datetime
) -> CredentialPaused | None:
    """The pause to append; None when one stands that is about as long: many attempts find out the same."""
    if not credential.is_paused(now) or credential.pause is None:
        return wanted
    if credential.pause.until is None:
        return None
    if wanted.until is None or wanted.until > credential.pause.until + LONGER:
        return wanted
    return None


def decide_resume(
    wanted: CredentialResumed, credential: Credential, now: datetime, *, is_forced: bool
) -> CredentialResumed | None:
    """The resume to append; None when nothing is paused, or, unless forced, its time has not come."""
    if credential.pause is None or (not is_forced and credential.is_paused(now)):
        return None
    return wanted
