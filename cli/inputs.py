"""What people type: JSON, `NAME=VALUE`, durations, checked here so that the message names the place."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

import msgspec

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import read_json


def json_of(text: str, what: str) -> msgspec.Raw:
    """A JSON document from the command line, or from stdin for `-`.

    Raises:
        InvalidInput: it is not JSON; the message says where.
    """
    if text == "-":
        text = read_stdin(what)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(_where(text, what, error)) from error
    except RecursionError:
        pass  # the reader below says so
    raw = text.strip().encode("utf-8", "surrogateescape")
    read_json(raw, what)
    return msgspec.Raw(raw)


def object_of(text: str, what: str) -> msgspec.Raw:
    """Like `json_of`, for one JSON object.

    Raises:
        InvalidInput: it is not JSON, or no object.
    """
    raw = json_of(text, what)
    if not bytes(raw).startswith(b"{"):
        raise InvalidInput(
            f'the {what} must be one JSON object of names and values, such as \'{{"host": "cube"}}\','
            f" not {_short(bytes(raw).decode('utf-8', 'replace'))}"
        )
    return raw


def encode_object(fields: Mapping[str, object], what: str) -> msgspec.Raw:
    """One JSON object.

    Raises:
        InvalidInput: a text in it is not Unicode.
    """
    try:
        return msgspec.Raw(msgspec.json.encode(fields))
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the {what} must be UTF-8 text: {error}") from error


def labels_of(pairs: Sequence[str] | None, what: str = "label") -> dict[str, str]:
    """Labels from `NAME=VALUE` texts.

    Raises:
        InvalidInput: one has no `=`, or no name or value.
    """
    labels = pairs_of(pairs, what)
    for name, value in labels.items():
        if not value:
            raise InvalidInput(f"{what} {name!r} has no value: write {name}=VALUE")
    return labels


def pairs_of(pairs: Sequence[str] | None, what: str) -> dict[str, str]:
    """Names and values from `NAME=VALUE` texts; the last one of a name counts.

    Raises:
        InvalidInput: one has no `=` or no name.
    """
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{what} {pair!r} is not NAME=VALUE, such as team=search")
        found[name] = value
    return found


def repo_of(text: str) -> str:
    """A repository as a task names it: a path that is relative is seen from here."""
    if not text or (os.sep not in text and text not in (".", "..", "~")):
        return text
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH111, PTH100 - it need not be here


def read_stdin(what: str) -> str:
    """All of stdin, as text.

    Raises:
        InvalidInput: it is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the {what} on stdin must be UTF-8 text: {error}") from error


def _where(text: str, what: str, error: json.JSONDecodeError) -> str:
    near = _short(text[error.pos : error.pos + 20]) if error.pos < len(text) else "the end"
    return (
        f"the {what} must be valid JSON: {error.msg} at line {error.lineno}, column {error.colno},"
        f" at {near}"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
