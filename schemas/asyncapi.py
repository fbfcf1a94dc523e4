"""The AsyncAPI document: every subject of a fleet, and what is said there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from fleetlog.schemas import subjects
from fleetlog.schemas.beats import Beat, OutputChunk
from fleetlog.schemas.events import EVENT_TYPES, SCHEMA_VERSION
from fleetlog.schemas.jsonschema import struct_schemas

ASYNCAPI_VERSION: Final = "3.1.0"

_JSON: Final = "application/json"
_NATS: Final[dict[str, Any]] = {"nats": {}}
"""The bindings of NATS must be empty at servers, channels and messages; facts stand under `x-jetstream`."""

_KEY: Final = "key if that is a token, else `k` and 32 hex digits."
_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "fleet": {"description": "The fleet's name.", "default": "main"},
    "task_id": {"description": "The task's id; `k` and 32 hex digits where it came from a key."},
    "queue": {"description": "A queue; of a task, the one that it is offered on."},
    "priority": {
        "description": "Its priority within the queue.",
        "enum": list(subjects.PRIORITIES),
    },
    "agent_id": {"description": "One incarnation of an agent."},
    "barrier_id": {"description": "The barrier's id; of a task that fanned out, the task's."},
    "credential": {"description": "The credential's name within the fleet."},
    "schedule": {"description": "The schedule's name, at most 64 characters."},
    "limit": {"description": f"The limit's {_KEY}"},
    "budget": {"description": f"The budget's {_KEY}"},
    "worker_id": {"description": "A worker process, unique within its agent."},
    "attempt": {"description": "The number of the attempt, from 1."},
}
_THINGS: Final[Mapping[str, str]] = {
    "task": "{task_id}",
    "barrier": "{barrier_id}",
    "agent": "{agent_id}",
    "worker": "{agent_id}",
    "queue": "{queue}",
    "credential": "{credential}",
    "schedule": "{schedule}",
    "limit": "{limit}",
    "budget": "{budget}",
}
"""What stands behind the kind."""
_GUARD_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "Nats-Expected-Last-Subject-Sequence": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "The sequence of the thing's last event, 0 for its first.",
        },
        "Nats-Expected-Last-Subject-Sequence-Subject": {
            "type": "string",
            "description": "The guard: see `x-jetstream` of the channel.",
        },
    },
    "required": [
        "Nats-Expected-Last-Subject-Sequence",
        "Nats-Expected-Last-Subject-Sequence-Subject",
    ],
}
_BESIDE: Final[Mapping[str, tuple[str, type[Struct]]]] = {
    "beats": ("Heartbeats of agents, once a second. Not part of the log.", Beat),
    "output": ("What attempts print. Not part of the log.", OutputChunk),
}


def asyncapi_document() -> dict[str, Any]:
    """The whole document; the same in every run, in the order in which it reads best."""
    kinds = list(dict.fromkeys(name.partition(".")[0] for name in EVENT_TYPES))
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "id": "urn:fleetlog:events",
        "info": {
            "title": "fleetlog",
            "version": str(SCHEMA_VERSION),
            "description": "Every event of a fleet's log on NATS JetStream, one message for each type, and"
            " what is said beside the log. Readers ignore fields and types that they do not know.",
        },
        "defaultContentType": _JSON,
        "servers": {
            "nats": {
                "host": "{host}",
                "protocol": "nats",
                "description": "nats-server 2.15 or newer, with JetStream.",
                "variables": {"host": {"default": "127.0.0.1:4222"}},
                "bindings": _NATS,
            }
        },
        "channels": {
            **{kind: _log_channel(kind) for kind in kinds},
            **{name: _beside_channel(name) for name in _BESIDE},
        },
        "operations": _operations(kinds),
        "components": {
            "messages": {
                **{name: _event_message(name) for name in EVENT_TYPES},
                **{name: _beside_message(name) for name in _BESIDE},
            },
            "schemas": struct_schemas(
                [*EVENT_TYPES.values(), *(kind for _, kind in _BESIDE.values())],
                "#/components/schemas/{name}",
            ),
        },
    }


def _log_channel(kind: str) -> dict[str, Any]:
    is_task, is_worker = kind == "task", kind == "worker"
    thing_id = _THINGS[kind]
    worker_id = "{worker_id}" if is_worker else None
    address = subjects.format_subject(
        subjects.Subject(
            "{fleet}",
            kind,
            thing_id,
            "{verb}",
            queue="{queue}" if is_task else None,
            priority="{priority}" if is_task else None,  # type: ignore[arg-type]  # a place for one
            worker_id=worker_id,
        )
    )
    types = [name for name in EVENT_TYPES if name.startswith(f"{kind}.")]
    verbs = {
        "description": "What happened: the last part of the event's type.",
        "enum": [name.partition(".")[2] for name in types],
    }
    return _channel(
        address,
        f"What happens to {'an' if kind == 'agent' else 'a'} {kind}; its events in order.",
        types,
        {"verb": verbs},
        {
            **_stream(0),
            "storage": "file",
            "discard": "new",
            "deny_delete": True,
            "allow_atomic": True,
            "guard": subjects.guard("{fleet}", kind, thing_id, worker_id),
        },
    )


def _beside_channel(name: str) -> dict[str, Any]:
    if name == "beats":
        address, place = subjects.beats("{fleet}", "{agent_id}"), _stream(1)
        facts = {**place, "storage": "memory", "discard": "old"}
    else:
        address, place = subjects.output("{fleet}", "{task_id}", "{attempt}"), _stream(2)
        facts = {**place, "storage": "file", "discard": "old"}
    return _channel(address, _BESIDE[name][0], [name], {}, facts)


def _channel(
    address: str,
    description: str,
    messages: list[str],
    more_parameters: Mapping[str, dict[str, Any]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    known = {**_PARAMETERS, **more_parameters}
    return {
        "address": address,
        "description": description,
        "parameters": {name: text for name, text in known.items() if f"{{{name}}}" in address},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": _NATS,
        "x-jetstream": facts,
    }


def _operations(kinds: list[str]) -> dict[str, Any]:
    appends = {
        f"append_{kind}": _operation(
            "send",
            kind,
            "Appends one event, if the thing's last one is still the one that is stated.",
        )
        for kind in kinds
    }
    follows = {
        f"follow_{name}": _operation(
            "receive", name, "Reads and follows, in order, as often as one likes."
        )
        for name in (*kinds, *_BESIDE)
    }
    take = _operation(
        "receive", "task", "Takes offers from the durable consumer of a queue and priority."
    )
    take["messages"] = [{"$ref": "#/channels/task/messages/task.queued"}]
    take["x-jetstream"] = {
        "filter_subject": subjects.tasks("{fleet}", "{queue}", "{priority}", "queued"),
        "ack_policy": "explicit",
        "max_deliver": -1,
    }
    publish = {
        f"publish_{name}": _operation("send", name, "Publishes; a loss costs nothing.")
        for name in _BESIDE
    }
    return {**appends, **follows, "take_offers": take, **publish}


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


def _event_message(name: str) -> dict[str, Any]:
    kind = EVENT_TYPES[name]
    return {
        **_message(name, kind),
        "headers": _GUARD_HEADERS,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _beside_message(name: str) -> dict[str, Any]:
    kind = _BESIDE[name][1]
    payload: dict[str, Any] = {"$ref": f"#/components/schemas/{kind.__name__}"}
    if kind is OutputChunk:
        payload = {"type": "array", "items": payload}
    return {**_message(name, kind), "payload": payload}


def _message(name: str, kind: type[Struct]) -> dict[str, Any]:
    return {
        "name": name,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "contentType": _JSON,
        "bindings": _NATS,
    }


def _stream(index: int) -> dict[str, str]:
    return {"stream": subjects.stream_names("x")[index].replace("_x", "_{fleet}")}
