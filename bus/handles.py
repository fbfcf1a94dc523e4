"""What the client answers with when the log has accepted something: how to wait for it, and how to end it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetlog.bus.cancelling import abandon
from fleetlog.bus.fanning_out import Opened
from fleetlog.bus.outcomes import Outcome
from fleetlog.bus.submit_options import Duration, seconds_of
from fleetlog.schemas.fan_outs import FanOutSpec

if TYPE_CHECKING:
    from fleetlog.bus.client import Client


class Submitted:
    """A task that the log has accepted."""

    def __init__(self, client: Client, task_id: str, seq: int, *, is_duplicate: bool) -> None:
        self.task_id = task_id
        self.seq = seq
        self.is_duplicate = is_duplicate
        self._client = client

    async def result(self, timeout: Duration | None = None) -> Outcome:
        """See `Client.result`."""
        return await self._client.result(self.task_id, timeout)

    async def cancel(self, *, reason: str | None = None) -> None:
        """See `Client.cancel`."""
        await self._client.cancel(self.task_id, reason=reason)

    def __repr__(self) -> str:
        return f"<task {self.task_id} at {self.seq}{' (duplicate)' if self.is_duplicate else ''}>"


class FannedOut:
    """A fan-out that the log has accepted."""

    def __init__(self, client: Client, barrier_id: str, plan: FanOutSpec, opened: Opened) -> None:
        self.barrier_id = barrier_id
        self.seq = opened.seq
        self.task_ids = [member.task_id for member in plan.members]
        """The members', in order."""
        self.continuation_id = plan.then.task_id if plan.then is not None else None
        self.is_duplicate = opened.is_duplicate
        self._client = client

    async def result(self, timeout: Duration | None = None) -> Outcome:
        """The continuation's outcome; without one, how the barrier ended. See `Client.result`."""
        waiting = self._client.waiting
        if self.continuation_id is not None:
            return await waiting.result(self.continuation_id, timeout, is_follower=True)
        async with asyncio.timeout(seconds_of(timeout)):
            return await waiting.barrier_end(self.barrier_id)

    async def cancel(self, *, reason: str | None = None, actor: str | None = None) -> None:
        """Ends it: open members are cancelled, the continuation does not run."""
        await abandon(self._client.fleet, self.barrier_id, reason=reason, actor=actor)

    def __repr__(self) -> str:
        return f"<fan-out {self.barrier_id} of {len(self.task_ids)} at {self.seq}>"
