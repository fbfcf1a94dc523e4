"""How keys, requirements and members stand in ids and subjects, worked out anew."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HASH: Final = re.compile(r"k[0-9a-f]{32}")
_NO_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]+")
_REVIVAL: Final = re.compile(r"(.+)-r([1-9][0-9]{0,8})")
_NEED_NO_CREDENTIAL: Final = frozenset({"python", "command"})


def key_id(key: str) -> str:
    """The id of a task with a key."""
    return "k" + hashlib.sha256(key.encode()).hexdigest()[:32]


@lru_cache(maxsize=10_000)
def key_token(key: str) -> str:
    """How the key of a limit or budget stands in subjects."""
    is_plain = _TOKEN.fullmatch(key) and not _HASH.fullmatch(key)
    return key if is_plain else key_id(key)


def derived_id(base: str, suffix: str | int) -> str:
    """The id of a member or a continuation of a barrier."""
    if len(base) > 100:
        base = "d" + hashlib.sha256(base.encode()).hexdigest()[:32]
    return f"{base}-{suffix}"


def offer_queue(queue: str, requires: Mapping[str, str]) -> str:
    """The queue on which tasks with these requirements are offered."""
    return _offer_queue(queue, tuple(sorted(requires.items()))) if requires else queue


@lru_cache(maxsize=10_000)
def _offer_queue(queue: str, pairs: tuple[tuple[str, str], ...]) -> str:
    digits = hashlib.sha256(msgspec.json.encode([queue, pairs])).hexdigest()[:8]
    words = _NO_TOKEN.sub("-", "-".join(f"{name}-{value}" for name, value in pairs)).strip("-")
    return f"{queue[:64]}-needs-{words[:48]}-{digits}"


def family_of(key: str) -> str | None:
    """The key whose setting holds for a key that has none, such as `user:*` for `user:ann`."""
    name, colon, rest = key.partition(":")
    return f"{name}:*" if colon and rest != "*" and not key.endswith(":*") else None


def credential_of(spec: Mapping[str, Any]) -> str | None:
    """The credential that attempts of a task use."""
    executor: str = spec.get("executor", "python")
    if executor in _NEED_NO_CREDENTIAL:
        return None
    args = spec.get("args")
    named = args.get("credential") if isinstance(args, dict) else None
    return named if isinstance(named, str) and named else executor


def is_revival_of(task_id: str, dead_id: str) -> bool:
    """Whether the id is one that a revival of the dead task, or of an earlier one of its line, gets."""
    match = _REVIVAL.fullmatch(task_id)
    if match is None:
        return False
    dead = _REVIVAL.fullmatch(dead_id)
    is_later = dead is not None and dead[1] == match[1] and int(dead[2]) < int(match[2])
    return match[1] == dead_id or is_later


def has_gate(spec: Mapping[str, Any]) -> bool:
    """Whether a task is held before it is offered."""
    return bool(
        spec.get("delay_ms") or waits_for_tasks(spec) or spec.get("affinity") or is_let_in(spec)
    )


def waits_for_tasks(spec: Mapping[str, Any]) -> bool:
    """Whether other tasks have to settle first."""
    return bool(spec.get("continues") or spec.get("after"))


def is_let_in(spec: Mapping[str, Any]) -> bool:
    """Whether the coordinator has to let each attempt in."""
    return bool(
        spec.get("limits")
        or spec.get("budgets")
        or spec.get("budget")
        or spec.get("fair_key") is not None
    )


def budget_keys(spec: Mapping[str, Any], task_id: str) -> list[str]:
    """The budgets that count what a task uses."""
    own = [task_id] if spec.get("budget") else []
    return [*spec.get("budgets", ()), *own]
