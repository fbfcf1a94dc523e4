"""The items of a `fleetlog map`: how a line becomes a task."""

from __future__ import annotations

import json

import msgspec

from fleetlog.cli.lines import Line
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec, check_spec, read_json


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How an item becomes a task."""

    template: TaskSpec
    """All but the arguments and the key."""
    arg: str | None = None
    """The argument that the item becomes; None: the item is the object of all arguments."""
    key_prefix: str | None = None
    """The task's key begins with this."""
    key_field: str | None = None
    """The task's key ends with this argument's value; without it, with the item's number."""

    def task_of(self, line: Line) -> TaskSpec:
        """The task of one line.

        Raises:
            InvalidInput: names the line and the place in it.
        """
        try:
            value = read_json(line.text, "item")
        except InvalidInput as error:
            raise InvalidInput(f"{line.place}{_place_in(line.text)}: {error}") from error
        try:
            return check_spec(self._task(line, value))
        except InvalidInput as error:
            raise InvalidInput(f"{line.place}: {error}") from error

    def _task(self, line: Line, value: object) -> TaskSpec:
        args = msgspec.Raw(line.text)
        if self.arg is not None:
            value = {self.arg: value}
            args = msgspec.Raw(msgspec.json.encode({self.arg: args}))
        if not isinstance(value, dict):
            raise InvalidInput(
                'an item must be one JSON object of names and values, such as {"host": "cube"};'
                " for items of another kind, name the argument that they are with --arg"
            )
        key = self._key(line, value)
        return msgspec.structs.replace(self.template, args=args, key=key)

    def _key(self, line: Line, arguments: dict[str, object]) -> str | None:
        if self.key_field is None:
            return None if self.key_prefix is None else f"{self.key_prefix}-{line.item}"
        value = arguments.get(self.key_field)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise InvalidInput(
                f"the item needs a {self.key_field!r} that is a text or a whole number, for --key-field"
            )
        return str(value) if self.key_prefix is None else f"{self.key_prefix}-{value}"


def _place_in(text: bytes) -> str:
    """Where JSON ends to be JSON; the standard library says it by column, msgspec by bytes, or not at all."""
    try:
        json.loads(text.decode())
    except json.JSONDecodeError as error:
        return f", column {error.colno}"
    except UnicodeDecodeError as error:
        return f", byte {error.start + 1}"
    except RecursionError:
        pass
    return ""
