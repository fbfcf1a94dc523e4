"""Requests to a role of the fleet, such as a query to the projector: one request, many chunks back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

Handler = Callable[[bytes], AsyncIterator[bytes]]
"""Answers one request with any number of chunks, each at most 512 KiB. An `InvalidInput` or `FleetlogError` it
raises reaches the caller as the same class with the same message."""


class Services(Protocol):
    """Roles answer, commands ask."""

    def serve(self, name: str, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Answers requests to `name` while the context is open; several servers share the requests."""
        ...

    def request(
        self, name: str, payload: bytes, *, timeout_s: float = 30.0
    ) -> AsyncIterator[bytes]:
        """Asks and yields the chunks as they come, at the caller's pace.

        Args:
            name: the service.
            payload: the request.
            timeout_s: the longest wait for the next chunk.

        Raises:
            Unavailable: nobody serves `name`, or the next chunk did not come in time.
        """
        ...
