"""Ids: single subject tokens. Ours are time-ordered; a key becomes one by hashing."""

from __future__ import annotations

import hashlib
import re

from fleetlog.schemas.errors import InvalidInput

ID_LENGTH_MAX = 128
KEY_LENGTH_MAX = 1024

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def check_id(value: str, what: str = "id") -> str:
    """Returns `value` if it can stand as one token of a subject.

    Raises:
        InvalidInput: it is empty, longer than 128 or has a character outside `[A-Za-z0-9_-]`.
    """
    if _TOKEN.fullmatch(value) is None:
        raise InvalidInput(
            f"{what} {value[:40]!r} is not valid: use 1 to {ID_LENGTH_MAX} characters"
            " out of A-Z a-z 0-9 _ and -"
        )
    return value


def time_ordered_id(at_ms: int, entropy: bytes) -> str:
    """A 26-character id that sorts by time: 48 bits of milliseconds since 1970, 80 bits of entropy.

    The layout is a ULID's in lower case, so that ids of one process and of another interleave.
    """
    number = (at_ms << 80) | int.from_bytes(entropy[:10], "big")
    pairs = [_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)]
    return "".join(pairs)


def key_id(key: str) -> str:
    """The task id of a `--key`: the same for everybody, for ever.

    Raises:
        InvalidInput: the key is empty, longer than 1024 characters or not text that UTF-8 can hold.
    """
    if not 0 < len(key) <= KEY_LENGTH_MAX:
        raise InvalidInput(f"a key must have 1 to {KEY_LENGTH_MAX} characters, this has {len(key)}")
    try:
        return "k" + hashlib.sha256(key.encode()).hexdigest()[:32]
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a key must be valid Unicode text: {error}") from error
