"""`fleetlog schema`: what the log says, for other programs and languages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fleetlog.bus.call import near_names
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.schemas.asyncapi import asyncapi_document
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.jsonschema import bundled_json_schema, json_schemas

_FORMATS = ("asyncapi", "json-schema")

app = plain_typer(no_args_is_help=True)


@app.callback()
def _schema() -> None:
    """Describe the log for other programs and languages.

    Example: fleetlog schema export --out schemas
    """


@app.command()
def export(
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write files into this folder, not to stdout."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="asyncapi or json-schema.",
            show_default="asyncapi; with --out both",
        ),
    ] = None,
) -> None:
    """Write the schemas of all events and of a task.

    AsyncAPI 3.1 is one document with every subject of the log. JSON Schema (2020-12) is one document for any
    event on stdout; with --out, a file for each type of event and one for the task. Needs no running fleet.

    Examples:
      fleetlog schema export > asyncapi.json
      fleetlog schema export --format json-schema
      fleetlog schema export --out schemas
    """
    if form is not None and form not in _FORMATS:
        near = near_names(form, dict.fromkeys(_FORMATS))
        raise InvalidInput(f"there is no format {form!r}{near}")
    if out is not None:
        _write(out, files_of(_FORMATS if form is None else (form,)))
    else:
        typer.echo(_text(bundled_json_schema() if form == "json-schema" else asyncapi_document()))


def files_of(formats: tuple[str, ...]) -> dict[str, str]:
    """By file name, what `--out` writes."""
    documents: dict[str, dict[str, Any]] = {}
    if "asyncapi" in formats:
        documents["asyncapi.json"] = asyncapi_document()
    if "json-schema" in formats:
        documents |= {f"{name}.schema.json": schema for name, schema in json_schemas().items()}
    return {name: f"{_text(document)}\n" for name, document in documents.items()}


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write into {folder}: {error.strerror}") from error
    say(f"{len(files)} files in {folder}")


def _text(document: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
