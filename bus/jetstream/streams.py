"""The streams of a fleet: declared when missing, attested when there."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from fleetlog.bus.errors import ConfigError, StreamMissing
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.schemas import subjects

_DAY_NS: Final = 86_400 * 1_000_000_000
_STREAM_NOT_FOUND: Final = 10059
_NO_PEERS: Final = 10005
PEERS_WAIT_S: Final = 10.0
"""So long nodes may take to find one another: a cluster that has just started says it has too few of them."""
_PEERS_PAUSE_S: Final = 0.2
_MIB: Final = 1024 * 1024


class _Info(msgspec.Struct, frozen=True):
    config: dict[str, Any]


def log_config(fleet: str, replicas: int) -> dict[str, Any]:
    """The log: nothing in it can be changed, rolled up or aged away."""
    return {
        "name": subjects.stream_names(fleet)[0],
        "subjects": [subjects.everything(fleet)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "allow_msg_schedules": False,
        "num_replicas": replicas,
    }


def beats_config(fleet: str, replicas: int) -> dict[str, Any]:
    """Heartbeats: in memory, for ten minutes; an fsync for each would slow the log down."""
    return {
        "name": subjects.stream_names(fleet)[1],
        "subjects": [subjects.beats(fleet)],
        "storage": "memory",
        "retention": "limits",
        "discard": "old",
        "max_age": _DAY_NS // 144,
        "max_bytes": 32 * _MIB,
        "allow_direct": True,
        "num_replicas": replicas,
    }


def output_config(fleet: str, replicas: int) -> dict[str, Any]:
    """Output: on disk for a week, written without waiting for the disk where that is possible.

    Bounded by a number of messages (of at most about 64 KiB, mostly lines), not by bytes: the server sets aside
    what `max_bytes` says, and refuses to start a fleet on a small disk that has room enough for its log.
    """
    config = {
        "name": subjects.stream_names(fleet)[2],
        "subjects": [subjects.output(fleet)],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": 7 * _DAY_NS,
        "max_msgs": 1_000_000,
        "allow_direct": True,
        "num_replicas": replicas,
    }
    return config | {"persist_mode": "async"} if replicas == 1 else config


def objects_config(fleet: str, replicas: int) -> dict[str, Any]:
    """The object store: on disk as safely as the log, since events name what is in it; nothing ages away.

    Source: ADR-20 (JetStream based object stores), of which roll-ups are a part.
    """
    return {
        "name": subjects.object_stream(fleet),
        "subjects": list(subjects.object_subjects(fleet)),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "num_replicas": replicas,
    }


async def ensure_streams(connection: Connection, fleet: str, *, replicas: int | None = None) -> int:
    """Declares the fleet's streams where they are missing and checks those that are there.

    Args:
        connection: to the server.
        fleet: whose streams.
        replicas: for streams to be made; None takes what the log has, or 1.

    Returns:
        The log's number of replicas.

    Raises:
        ConfigError: a stream has other settings than the design needs; it names them. Or it cannot be made,
            such as on a cluster that still has too few nodes after `PEERS_WAIT_S`.
    """
    log_name = subjects.stream_names(fleet)[0]
    present = await _info(connection, log_name)
    if replicas is None:
        replicas = 1 if present is None else int(present.get("num_replicas", 1))
    for make in (log_config, beats_config, output_config, objects_config):
        wanted = make(fleet, replicas)
        found = await _info(connection, wanted["name"])
        if found is None:
            found = await _create(connection, wanted)
        _attest(wanted, found, is_strict=wanted["name"] == log_name)
    return replicas


async def find_missing(connection: Connection, fleet: str) -> list[str]:
    """The names of the fleet's streams that are not there; makes none.

    Raises:
        ConfigError: one that is there has other settings than the design needs; it names them.
    """
    log_name = subjects.stream_names(fleet)[0]
    present = await _info(connection, log_name)
    replicas = 1 if present is None else int(present.get("num_replicas", 1))
    missing = []
    for make in (log_config, beats_config, output_config, objects_config):
        wanted = make(fleet, replicas)
        found = await _info(connection, wanted["name"])
        if found is None:
            missing.append(wanted["name"])
        else:
            _attest(wanted, found, is_strict=wanted["name"] == log_name)
    return missing


async def require_stream(connection: Connection, name: str) -> None:
    """Raises `StreamMissing` if the server has no such stream."""
    if await _info(connection, name) is None:
        raise StreamMissing(f"this server has no stream {name}: check --fleet and --url")


async def _info(connection: Connection, name: str) -> dict[str, Any] | None:
    try:
        return (await connection.ask(f"$JS.API.STREAM.INFO.{name}", None, _Info)).config
    except ApiRefusal as refusal:
        if refusal.error.err_code == _STREAM_NOT_FOUND:
            return None
        raise


async def _create(connection: Connection, config: dict[str, Any]) -> dict[str, Any]:
    try:
        created = await _create_once_placed(connection, config)
    except ApiRefusal as refusal:
        # Two roles may start at once: the other one's stream is as good, if its settings hold.
        found = await _info(connection, config["name"])
        if found is None:
            advice = ": are all nodes up?" if refusal.error.err_code == _NO_PEERS else ""
            raise ConfigError(
                f"stream {config['name']} cannot be made: {refusal.error.description}{advice}"
            ) from refusal
        return found
    return created.config


async def _create_once_placed(connection: Connection, config: dict[str, Any]) -> _Info:
    for _ in range(round(PEERS_WAIT_S / _PEERS_PAUSE_S)):
        try:
            return await connection.ask(f"$JS.API.STREAM.CREATE.{config['name']}", config, _Info)
        except ApiRefusal as refusal:
            if refusal.error.err_code != _NO_PEERS:
                raise
        await asyncio.sleep(_PEERS_PAUSE_S)
    return await connection.ask(f"$JS.API.STREAM.CREATE.{config['name']}", config, _Info)


def _attest(wanted: dict[str, Any], found: dict[str, Any], *, is_strict: bool) -> None:
    # Sizes and ages of what lives beside the log are the operator's choice; the log's own are promises.
    names = wanted if is_strict else ("subjects", "storage", "retention")
    wrong = [
        f"{name} is {found.get(name)!r}, must be {wanted[name]!r}"
        for name in names
        if found.get(name, _absent(wanted[name])) != wanted[name]
    ]
    if wrong:
        raise ConfigError(
            f"stream {wanted['name']} has settings that fleetlog cannot work with: {'; '.join(wrong)}."
            " Change them with `nats stream edit`, or use another --fleet"
        )


def _absent(wanted: object) -> object:
    # The server leaves out what is false or zero.
    return wanted if wanted in (False, 0) else None
