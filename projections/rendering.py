"""Rows as bytes: JSON, CSV, or a JSON array per line.

Instants are RFC 3339 in UTC, integers and decimals exact, blobs base64, intervals ISO 8601; structs, lists and
maps are JSON, in CSV too; a column of type JSON is the value itself. NaN and infinity are null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import BinaryIO, Final

import msgspec

from fleetlog.projections.query import Column, Format

Row = Iterable[object]
_encoder: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def write_rows(
    file: BinaryIO, kind: Format, columns: list[Column], rows: Iterable[tuple[object, ...]]
) -> int:
    """Writes rows as DuckDB gave them; answers how many."""
    converters = [_converter(column.type) for column in columns]
    plain = ([convert(v) for convert, v in zip(converters, row, strict=True)] for row in rows)
    names = [column.name for column in columns]
    match kind:
        case "json":
            return _write_json(file, names, plain)
        case "csv":
            return _write_csv(file, names, plain)
        case _:
            return _write_lines(file, plain)


def _write_json(file: BinaryIO, names: list[str], rows: Iterator[list[object]]) -> int:
    count = 0
    for row in rows:
        file.write(b",\n" if count else b"[")
        file.write(_encoder.encode(dict(zip(names, row, strict=True))))
        count += 1
    file.write(b"]\n" if count else b"[]\n")
    return count


def _write_lines(file: BinaryIO, rows: Iterator[list[object]]) -> int:
    count = 0
    for row in rows:
        file.write(_encoder.encode(row) + b"\n")
        count += 1
    return count


def _write_csv(file: BinaryIO, names: list[str], rows: Iterator[list[object]]) -> int:
    count = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        count += 1
    text.detach()
    return count


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            encoded = _encoder.encode(value)
            if encoded.startswith(b'"'):
                return msgspec.json.decode(encoded, type=str)
            return "" if encoded == b"null" else encoded.decode()


def _converter(kind: str) -> Callable[[object], object]:
    if kind == "JSON":
        return _raw
    if "TIMESTAMP WITH TIME ZONE" in kind:
        return _aware
    return _plain


def _raw(value: object) -> object:
    return msgspec.Raw(value.encode()) if isinstance(value, str) else value


def _aware(value: object) -> object:
    match value:
        case datetime(tzinfo=None):
            return value.replace(tzinfo=UTC)
        case dict() | list() | tuple():
            return _nested(value, _aware)
        case _:
            return _plain(value)


def _plain(value: object) -> object:
    match value:
        case int() if not -(1 << 63) <= value < 1 << 64:
            return msgspec.Raw(str(value).encode())
        case Decimal() if not value.is_finite():
            return None
        case dict() | list() | tuple():
            return _nested(value, _plain)
        case _:
            return value


def _nested(
    value: dict[object, object] | list[object] | tuple[object, ...],
    convert: Callable[[object], object],
) -> object:
    if isinstance(value, dict):
        return {_key(key): convert(inner) for key, inner in value.items()}
    return [convert(inner) for inner in value]


def _key(key: object) -> str:
    return key if isinstance(key, str) else _cell(_aware(key))
