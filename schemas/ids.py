"""Ids: single subject tokens. Ours are time-ordered; a key becomes one by hashing."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from fleetlog.schemas.errors import InvalidInput

ID_LENGTH_MAX = 128
KEY_LENGTH_MAX = 1024

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}")
_HASHED = re.compile(r"k[0-9a-f]{32}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_FIVE_BITS = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
_BASE_LENGTH_MAX = 100
ENTROPY_BYTES = 16
"""What an id takes of entropy: five bits of each byte."""


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

    Args:
        at_ms: milliseconds since 1970.
        entropy: `ENTROPY_BYTES` random bytes.
    """
    return _time_part(at_ms) + entropy[:ENTROPY_BYTES].translate(_FIVE_BITS).decode()


@lru_cache(maxsize=1)
def _time_part(at_ms: int) -> str:
    # Kept for the ids of the same millisecond: a busy agent makes a dozen.
    return "".join(_ALPHABET[(at_ms >> shift) & 31] for shift in range(45, -1, -5))


def derived_id(base: str, suffix: str | int) -> str:
    """The id of a thing that another one leads to: `<base>-<suffix>`, whoever makes it.

    Of a long `base`, such as that of a chain of continuations, its hash, so that chains may go on for ever.
    """
    if len(base) > _BASE_LENGTH_MAX:
        base = "d" + hashlib.sha256(base.encode()).hexdigest()[:32]
    return f"{base}-{suffix}"


@lru_cache(maxsize=4096)
def key_token(key: str) -> str:
    """How a key stands in subjects: as it is if that is a token, else hashed.

    Raises:
        InvalidInput: see `key_id`.
    """
    hashed = key_id(key)
    # One that looks like a hash is hashed too: no two keys share a token.
    is_plain = _TOKEN.fullmatch(key) is not None and _HASHED.fullmatch(key) is None
    return key if is_plain else hashed


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
