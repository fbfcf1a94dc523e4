"""A batch of log messages as DuckDB takes it: one Arrow table, built without an object per row.

Columns: seq BIGINT, stored_ns BIGINT, subject VARCHAR, text VARCHAR (the payload; what is not UTF-8 is
replaced), bytes BLOB (the payload where `text` is not exactly it, else NULL), problem VARCHAR (why this version
can't read the event, else empty).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec
import nanoarrow
from nanoarrow._array_stream import CArrayStream

from fleetlog.schemas.envelope import UPCASTS, Stored, UnknownEvent, Upcast, decode, encode
from fleetlog.schemas.events import SCHEMA_VERSION, AnyEvent

_SCHEMA = nanoarrow.struct(
    {
        "seq": nanoarrow.int64(),
        "stored_ns": nanoarrow.int64(),
        "subject": nanoarrow.string(),
        "text": nanoarrow.string(),
        "bytes": nanoarrow.binary(),
        "problem": nanoarrow.string(),
    }
)


ROWS_MAX: Final = 8192
"""In one array: DuckDB reads a stream with one thread per array."""


class Rows(NamedTuple):
    """Some messages as one Arrow array; takes less room than they do."""

    array: nanoarrow.c_array.CArray
    length: int
    last_seq: int
    size_bytes: int
    """Of the payloads."""


class Batch:
    """Rows for DuckDB; register it under a name and select from that."""

    def __init__(self, pieces: Sequence[Rows]) -> None:
        self._pieces = pieces
        self._count = sum(rows.length for rows in pieces)

    @classmethod
    def of(cls, messages: Sequence[Stored]) -> Batch:
        """All of these."""
        starts = range(0, len(messages), ROWS_MAX)
        return cls([pack(messages[start : start + ROWS_MAX]) for start in starts])

    def __len__(self) -> int:
        return self._count

    @property
    def last_seq(self) -> int:
        """The sequence of the last message."""
        return self._pieces[-1].last_seq

    def messages(self) -> list[Stored]:
        """What it was made of."""
        found = (row for rows in self._pieces for row in nanoarrow.Array(rows.array).iter_py())
        return [
            Stored(
                *(row["seq"], row["stored_ns"], row["subject"]),
                row["text"].encode() if row["bytes"] is None else row["bytes"],
            )
            for row in found
        ]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule protocol, which DuckDB reads."""
        arrays = [rows.array for rows in self._pieces]
        stream = CArrayStream.from_c_arrays(arrays, nanoarrow.c_schema(_SCHEMA))
        return stream.__arrow_c_stream__()


def pack(
    messages: Sequence[Stored],
    *,
    problem: str = "",
    upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS,
) -> Rows:
    """Reads up to `ROWS_MAX` messages; with `problem`, keeps them all unread and says so."""
    texts = [message.data for message in messages]
    size_bytes = sum(map(len, texts))
    originals: list[bytes | None] = [None] * len(texts)
    problems = [b""] * len(texts)
    if not _are_all_plain(texts):
        texts, originals, problems = _read(texts, upcasts)
    if problem:
        problems = [problem.encode()] * len(texts)
    columns = (
        _integers([message.seq for message in messages]),
        _integers([message.stored_at_ns for message in messages]),
        _strings([message.subject.encode("utf-8", "replace") for message in messages]),
        _strings(texts),
        _blobs(originals),
        _strings(problems),
    )
    array = nanoarrow.c_array_from_buffers(
        _SCHEMA, len(messages), [None], children=columns, validation_level="none"
    )
    return Rows(array, len(messages), messages[-1].seq, size_bytes)


_decoder = msgspec.json.Decoder(AnyEvent)


def _are_all_plain(texts: list[bytes]) -> bool:
    """Whether every payload is UTF-8 and an event of this version, as `decode` would say, but faster."""
    decode_one = _decoder.decode
    try:
        for data in texts:
            # Each event is let go at once: keeping them would cost as much again.
            if decode_one(data).v != SCHEMA_VERSION:
                return False
            if not data.isascii():
                data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class _Versioned(msgspec.Struct):
    v: int = SCHEMA_VERSION


_version_decoder = msgspec.json.Decoder(_Versioned)


def _read(
    texts: list[bytes], upcasts: Mapping[tuple[str, int], Upcast]
) -> tuple[list[bytes], list[bytes | None], list[bytes]]:
    # The same reader as everybody's decides what is an event, so that projection and core never disagree about
    # it; the fields are DuckDB's to parse.
    texts = list(texts)
    originals: list[bytes | None] = [None] * len(texts)
    problems = [b""] * len(texts)
    for index, data in enumerate(texts):
        event = decode(data, upcasts)
        if isinstance(event, UnknownEvent):
            problems[index] = (event.why or "not readable").encode("utf-8", "replace")
        elif upcasts and _version_decoder.decode(data).v != SCHEMA_VERSION:
            texts[index], originals[index] = encode(event), data
            continue
        if (text := data.decode("utf-8", "replace").encode()) != data:
            texts[index], originals[index] = text, data
    return texts, originals, problems


def _integers(values: list[int]) -> nanoarrow.c_array.CArray:
    return nanoarrow.c_array_from_buffers(
        nanoarrow.int64(), len(values), [None, array("q", values)], validation_level="none"
    )


def _strings(values: Sequence[bytes]) -> nanoarrow.c_array.CArray:
    return _variable(nanoarrow.string(), None, values)


def _blobs(values: Sequence[bytes | None]) -> nanoarrow.c_array.CArray:
    if all(value is None for value in values):
        nulls = bytes((len(values) + 7) // 8)
        return _variable(nanoarrow.binary(), nulls, [b""] * len(values))
    return _variable(nanoarrow.binary(), _validity(values), [value or b"" for value in values])


def _validity(values: Sequence[bytes | None]) -> bytes:
    bits = bytearray((len(values) + 7) // 8)
    for index, value in enumerate(values):
        if value is not None:
            bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def _variable(
    kind: nanoarrow.Schema, validity: bytes | None, values: Sequence[bytes]
) -> nanoarrow.c_array.CArray:
    offsets = array("i", accumulate(map(len, values), initial=0))
    return nanoarrow.c_array_from_buffers(
        kind, len(values), [validity, offsets, b"".join(values)], validation_level="none"
    )
