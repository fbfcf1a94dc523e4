"""Which things stand under which keys."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

K = TypeVar("K")


class Index(Generic[K]):
    """Ids by key; a key under which nothing stands is not kept."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[K, set[str]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: K) -> bool:
        return key in self._members

    def of(self, key: K) -> Collection[str]:
        """What stands under it."""
        return self._members.get(key, ())

    def add(self, key: K, id_: str) -> None:
        """Puts one under it."""
        self._members.setdefault(key, set()).add(id_)

    def discard(self, key: K, id_: str) -> bool:
        """Takes one out; answers whether it was there."""
        members = self._members.get(key)
        if members is None or id_ not in members:
            return False
        members.discard(id_)
        if not members:
            del self._members[key]
        return True

    def put(self, key: K, id_: str, *, is_in: bool) -> bool:
        """Puts it under the key or takes it out; answers whether it was taken out."""
        if is_in:
            self.add(key, id_)
            return False
        return self.discard(key, id_)
