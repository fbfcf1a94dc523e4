"""JSON Schemas (2020-12) of what is said, made from the structs that say it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Raw
from msgspec.structs import FieldInfo, fields

from fleetlog.schemas.descriptions import field_descriptions
from fleetlog.schemas.events import EVENT_TYPES, SCHEMA_VERSION
from fleetlog.schemas.specs import TaskSpec

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TASK_SPEC: Final = "task-spec"
"""The name of the task spec among the schemas of events."""


def schema_id(name: str) -> str:
    """The identifier of one schema, such as `urn:fleetlog:schema:task.queued:1`."""
    return f"urn:fleetlog:schema:{name}:{SCHEMA_VERSION}"


def json_schemas() -> dict[str, dict[str, Any]]:
    """One document for each event, by its type, and one for the task spec; each stands alone."""
    kinds: dict[str, type[msgspec.Struct]] = {**EVENT_TYPES, TASK_SPEC: TaskSpec}
    return {
        name: {"$schema": DIALECT, "$id": schema_id(name), **msgspec.json.schema(_twin(kind))}
        for name, kind in kinds.items()
    }


def bundled_json_schema() -> dict[str, Any]:
    """One document for any event of the log; the task spec is among its `$defs`."""
    components = struct_schemas([*EVENT_TYPES.values(), TaskSpec], "#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "$id": schema_id("event"),
        "title": "Event",
        "description": "Any event of a fleet's log.",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in EVENT_TYPES.values()],
        "$defs": components,
    }


def struct_schemas(
    kinds: Sequence[type[msgspec.Struct]], ref_template: str
) -> dict[str, dict[str, Any]]:
    """The schemas of structs and of those in their fields, by class name and sorted by it."""
    _, components = msgspec.json.schema_components(
        [_twin(kind) for kind in kinds], ref_template=ref_template
    )
    return dict(sorted(components.items()))


@cache
def _twin(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A struct with the same schema that msgspec can write: described fields, no raw defaults."""
    config = kind.__struct_config__
    texts = field_descriptions(kind)
    return msgspec.defstruct(
        kind.__name__,
        [_field(field, texts.get(field.name)) for field in fields(kind)],
        kw_only=True,
        tag=config.tag,
        tag_field=config.tag_field,
        namespace={"__doc__": kind.__doc__},
    )


def _field(field: FieldInfo, text: str | None) -> tuple[str, Any, Any]:
    annotation, default = _with_twins(field.type), field.default
    if isinstance(default, Raw):
        default = msgspec.json.decode(default)
        # Arguments are an object, which their annotation can't say of raw JSON.
        annotation = dict[str, Any] if isinstance(default, dict) else Any
    if text is not None:
        annotation = Annotated[annotation, Meta(description=text)]
    if field.default_factory is not NODEFAULT:
        return field.name, annotation, msgspec.field(default_factory=field.default_factory)
    return field.name, annotation, msgspec.field(default=default)


def _with_twins(annotation: Any) -> Any:
    """The annotation with the twin of each struct in it."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _twin(annotation)
    origin, parts = get_origin(annotation), tuple(map(_with_twins, get_args(annotation)))
    if origin is UnionType:
        return Union[parts]  # noqa: UP007 - of what is only known now
    return origin[parts] if origin in (tuple, dict) else annotation
