"""The synchronous face of the client: the same calls, from code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from fleetlog.bus.client import Client
from fleetlog.bus.core.commands import OnDuplicate
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.handles import FannedOut, Submitted
from fleetlog.bus.outcomes import History, Outcome
from fleetlog.bus.submit_options import Duration, SubmitOptions
from fleetlog.schemas.specs import TaskSpec

T = TypeVar("T")


class SyncSubmitted:
    """A task that the log has accepted. See `Submitted`."""

    def __init__(self, client: SyncClient, submitted: Submitted) -> None:
        self.task_id = submitted.task_id
        self.seq = submitted.seq
        self.is_duplicate = submitted.is_duplicate
        self._client = client

    def result(self, timeout: Duration | None = None) -> Outcome:
        """See `Client.result`."""
        return self._client.result(self.task_id, timeout)

    def cancel(self, *, reason: str | None = None) -> None:
        """See `Client.cancel`."""
        self._client.cancel(self.task_id, reason=reason)


class SyncFannedOut:
    """A fan-out that the log has accepted. See `FannedOut`."""

    def __init__(self, client: SyncClient, fanned_out: FannedOut) -> None:
        self.barrier_id = fanned_out.barrier_id
        self.seq = fanned_out.seq
        self.task_ids = fanned_out.task_ids
        self.continuation_id = fanned_out.continuation_id
        self.is_duplicate = fanned_out.is_duplicate
        self._client = client
        self._fanned_out = fanned_out

    def result(self, timeout: Duration | None = None) -> Outcome:
        """See `FannedOut.result`."""
        return self._client.wait(self._fanned_out.result(timeout))

    def cancel(self, *, reason: str | None = None) -> None:
        """See `FannedOut.cancel`."""
        self._client.wait(self._fanned_out.cancel(reason=reason))


class SyncClient:
    """A `Client` on an event loop in a thread of its own. Safe to share between threads."""

    def __init__(
        self, url: str | None = None, *, fleet: str | None = None, target: Target | None = None
    ) -> None:
        self._opening = Client.connect(url, fleet=fleet, target=target)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fleetlog client", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._context = _Context(self._opening)
            self._client = self.wait(self._context.enter())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.wait(self._context.leave())
        finally:
            self._end()

    def submit(
        self,
        spec: TaskSpec,
        *,
        key: str | None = None,
        task_id: str | None = None,
        timeout_s: float | None = None,
        is_checked: bool = False,
        on_duplicate: OnDuplicate = "return",
        **options: Unpack[SubmitOptions],
    ) -> SyncSubmitted:
        """See `Client.submit`."""
        submitting = self._client.submit(
            spec,
            key=key,
            task_id=task_id,
            timeout_s=timeout_s,
            is_checked=is_checked,
            on_duplicate=on_duplicate,
            **options,
        )
        return SyncSubmitted(self, self.wait(submitting))

    def submit_many(
        self, specs: Iterable[TaskSpec], *, is_checked: bool = False
    ) -> list[SyncSubmitted]:
        """See `Client.submit_many`."""
        submitting = self._client.submit_many(specs, is_checked=is_checked)
        return [SyncSubmitted(self, each) for each in self.wait(submitting)]

    def fan_out(self, fan_out: FanOut, *, key: str | None = None) -> SyncFannedOut:
        """See `Client.fan_out`."""
        return SyncFannedOut(self, self.wait(self._client.fan_out(fan_out, key=key)))

    def result(self, task_id: str, timeout: Duration | None = None) -> Outcome:
        """See `Client.result`."""
        return self.wait(self._client.result(task_id, timeout))

    def cancel(self, task_id: str, *, reason: str | None = None) -> None:
        """See `Client.cancel`."""
        self.wait(self._client.cancel(task_id, reason=reason))

    def answer(self, task_id: str, value: Any, *, actor: str | None = None) -> None:
        """See `Client.answer`."""
        self.wait(self._client.answer(task_id, value, actor=actor))

    def get(self, task_id: str) -> History:
        """See `Client.get`."""
        return self.wait(self._client.get(task_id))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs something of the asynchronous client to its end."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Context:
    """Enters and leaves an async context in one task, as its task group demands."""

    def __init__(self, opening: AbstractAsyncContextManager[Client]) -> None:
        self._opening = opening
        self._leaving = asyncio.Event()

    async def enter(self) -> Client:
        opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._holding = asyncio.ensure_future(self._hold(opened))
        await asyncio.wait((self._holding, opened), return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            await self._holding
        return opened.result()

    async def leave(self) -> None:
        self._leaving.set()
        await self._holding

    async def _hold(self, opened: asyncio.Future[Client]) -> None:
        async with self._opening as client:
            opened.set_result(client)
            await self._leaving.wait()


def connect(
    url: str | None = None, *, fleet: str | None = None, target: Target | None = None
) -> SyncClient:
    """The synchronous client: `with fleetlog.connect() as fleet: fleet.submit(...)`.

    Args:
        url: of the bus; None for the fleet that `fleetlog up` runs on this machine.
        fleet: its name.
        target: where and as whom to connect, instead of `url`.
    """
    return SyncClient(url, fleet=fleet, target=target)
