"""One connection to the server, and requests to JetStream's API over it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import nats
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fleetlog.bus.background import heeding_cancel
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.errors import ConfigError, TransportError, Unavailable
from fleetlog.bus.jetstream.hold import Hold
from fleetlog.bus.jetstream.login import check_creds, login_of, without_passwords
from fleetlog.bus.jetstream.nats_client import LastingClient, ServerError
from fleetlog.bus.jetstream.wire import Wire
from fleetlog.bus.system import Clock
from fleetlog.schemas.events import Instant

logger = logging.getLogger("fleetlog.bus")

VERSION_MIN = (2, 15)
"""Older servers lose acknowledged events in a compaction, or know no atomic batches."""
REQUEST_TIMEOUT_S = 5.0
TIME_TRUSTED_S = 60.0
"""The server's time is asked for at least so often."""
CLOCKS_APART_MAX_S = 0.5
PENDING_MAX_BYTES = 64 * 1024 * 1024
CLOSE_TIMEOUT_S = 3
PING_S = 5
PINGS_UNANSWERED_MAX = 2
"""So that a server that hangs, or a network that swallows everything, counts as gone after 15 to 20 s."""
_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)
_DENIED_INBOX = re.compile(
    r'permissions violation for subscription to "(_inbox[^"]+)"', re.IGNORECASE
)
_NO_JETSTREAM = frozenset({10039, 10076})
_UNAVAILABLE = 503

T = TypeVar("T")


class ApiError(msgspec.Struct, frozen=True):
    """JetStream's error object. Source: ADR-1 (JetStream JSON API design)."""

    code: int
    err_code: int = 0
    description: str = ""


class ApiRefusal(TransportError):
    """JetStream answered a request with an error; nothing was done."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"the server refused: {error.description} (code {error.err_code})")
        self.error = error


class _Answer(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    ts: Instant | None = None


class _Time(msgspec.Struct, frozen=True):
    """What the clocks said at one moment."""

    server: datetime
    wall: datetime
    heard_at: float
    """By the monotonic clock."""


class Connection:
    """A NATS client that reconnects for ever, tells who asks, and knows the server's time.

    Args:
        clock: this process's.
        client: keeps the connection.
        wire: the short way over it.
    """

    def __init__(self, clock: Clock, client: LastingClient, wire: Wire) -> None:
        self.client = client
        self.wire = wire
        self.hold = Hold()
        """Appends wait while it is on."""
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_denied: list[Callable[[str], None]] = []
        """Called with a subject that this user may not publish to; in lower case, for so it reaches us."""
        self._denied: set[str] = set()
        self._is_inbox_denied = False
        self._clock = clock
        self._connected = asyncio.Event()
        self._connected_since = clock.monotonic()
        self._hear_time(clock.now())
        self._last_error: Exception | None = None
        self._is_opening = True
        self._refused = asyncio.Event()

    def now(self) -> datetime:
        """The server's time, as well as this process knows it.

        Counted on from the server's last word by the monotonic clock: this machine's wall clock may be set, by
        an hour perhaps, and then nothing must expire.
        """
        return datetime.fromtimestamp(self._server_minus_monotonic + self._clock.monotonic(), UTC)

    def _hear_time(self, server: datetime) -> None:
        self._time = _Time(server, self._clock.now(), self._clock.monotonic())
        self._server_minus_monotonic = server.timestamp() - self._time.heard_at

    @property
    def is_time_doubtful(self) -> bool:
        """Whether the server had better be asked for its time.

        After a while the clocks have drifted apart; and when this machine slept or its clock was set, its wall
        clock and its monotonic one do not agree.
        """
        passed_s = self._clock.monotonic() - self._time.heard_at
        walked_s = (self._clock.now() - self._time.wall).total_seconds()
        return passed_s > TIME_TRUSTED_S or abs(walked_s - passed_s) > CLOCKS_APART_MAX_S

    @property
    def is_connected(self) -> bool:
        """Whether the server can be reached at this moment."""
        return self._connected.is_set()

    @property
    def may_append(self) -> bool:
        """Whether an append can be sent at this moment."""
        return self.is_connected and not self.hold.is_on

    @property
    def connected_for_s(self) -> float:
        """How long the present connection has lasted; 0 without one."""
        return self._clock.monotonic() - self._connected_since if self.is_connected else 0.0

    @property
    def server_version(self) -> str:
        """Of the server of the present or last connection, such as `2.15.1`."""
        version = self.client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    async def wait_connected(self) -> None:
        """Waits until there is a connection."""
        await self._connected.wait()

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Sends a message; while disconnected it is kept for the next connection, up to a limit.

        Raises:
            Unavailable: the connection is closed, or that limit is reached.
        """
        try:
            await self.client.publish(subject, data, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise TransportError(
                f"{len(data)} bytes are more than the server takes in one message;"
                " make the arguments or the result smaller"
            ) from error
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"cannot send: {_text(error)}") from error

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Calls `callback` for each message, one at a time; nothing is dropped for being slow."""
        return await self.client.subscribe(
            subject, cb=callback, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def request(self, subject: str, payload: object | None = None) -> bytes:
        """Asks JetStream's API and returns the answer's JSON.

        Raises:
            ApiRefusal: the server answered with an error.
            ConfigError: this user may not ask that or hear the answer, or JetStream is not enabled.
            Unavailable: no answer within 5 s, or the cluster has no leader.
        """
        data = b"" if payload is None else msgspec.json.encode(payload)
        try:
            message = await heeding_cancel(
                self.client.request(subject, data, timeout=REQUEST_TIMEOUT_S)
            )
        except nats.errors.NoRespondersError as error:
            raise Unavailable(
                "the server is there but JetStream does not answer: is it enabled, has it a leader?"
            ) from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            if subject.lower() in self._denied:
                raise denial(subject) from error
            if self._is_inbox_denied:
                raise ConfigError(
                    "this user has no permission to subscribe to _INBOX.>, where answers arrive: give it to the"
                    " role in the server's configuration, or use the credentials of another one"
                ) from error
            raise Unavailable(
                f"the server does not answer ({_text(error)}): see whether it is well, then try again"
            ) from error
        answer = msgspec.json.decode(message.data, type=_Answer)
        if answer.error is not None and answer.error.err_code in _NO_JETSTREAM:
            raise ConfigError(
                f"the server refused: {answer.error.description}. Enable JetStream in its configuration, for"
                " this user's account, or use the credentials of another one"
            )
        if answer.error is not None and answer.error.code == _UNAVAILABLE:
            raise Unavailable(
                f"the server says: {answer.error.description}. A cluster has no leader for some seconds when"
                " one of it goes, and none at all without most of its servers"
            )
        if answer.error is not None:
            raise ApiRefusal(answer.error)
        if answer.ts is not None:
            self._hear_time(answer.ts)
        return message.data

    async def ask(self, subject: str, payload: object | None, kind: type[T]) -> T:
        """Like `request`, read into `kind`."""
        return msgspec.json.decode(await self.request(subject, payload), type=kind)

    async def _open(self, target: Target, name: str, patience_s: float) -> None:
        connecting = asyncio.ensure_future(
            self.client.connect(
                servers=target.url.split(","),
                name=name,
                **login_of(target),  # type: ignore[arg-type] # of a dict, mypy knows one type for all keys
                user_credentials=str(target.creds) if target.creds else None,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type] # seconds; fractions work, its type is too narrow
                connect_timeout=2,
                pending_size=PENDING_MAX_BYTES,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS_UNANSWERED_MAX,
                error_cb=self._on_error,
                disconnected_cb=self.on_disconnected,
                reconnected_cb=self.on_reconnected,
            )
        )
        refused = asyncio.ensure_future(self._refused.wait())
        await asyncio.wait(
            (connecting, refused), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        refused.cancel()
        while not connecting.done():
            connecting.cancel()  # more than once: see `heeding_cancel`
            await asyncio.wait((connecting,), timeout=0.1)
        self._raise_unless_connected(connecting, target)
        self._is_opening = False
        self.mark_connected()

    def _raise_unless_connected(self, connecting: asyncio.Future[None], target: Target) -> None:
        error = self._last_error if connecting.cancelled() else connecting.exception()
        if self._refused.is_set():
            raise ConfigError(
                f"{without_passwords(target.url)} refused the credentials: give right ones, in a file with"
                " --creds or as --url nats://USER:PASSWORD@HOST:PORT"
            )
        if connecting.cancelled() or error is not None:
            raise Unavailable(
                f"no NATS server answers at {without_passwords(target.url)} ({_text(error)}):"
                " start one with `fleetlog up`, or give the address of yours with --url"
            ) from error

    def mark_connected(self) -> None:
        """From now on there is a connection."""
        self._connected_since = self._clock.monotonic()
        self._connected.set()

    async def _on_error(self, error: Exception) -> None:
        is_new, self._last_error = str(error) != str(self._last_error), error
        if "authorization" in str(error).lower() and self._is_opening:
            self._refused.set()
        elif isinstance(error, nats.errors.Error) and "permissions" in str(error).lower():
            logger.error("%s: this role may not do that; check its permissions", error)
            self._note_denial(str(error))
        elif isinstance(error, ServerError) or "authorization" in str(error).lower():
            if is_new:
                logger.error("the server says: %s; trying again", error)
        else:
            logger.debug("connection: %s", _text(error))

    def _note_denial(self, text: str) -> None:
        self._is_inbox_denied = self._is_inbox_denied or _DENIED_INBOX.search(text) is not None
        if (found := _DENIED.search(text)) is not None:
            self._denied.add(found[1])
            for callback in self.on_denied:
                callback(found[1])

    async def on_disconnected(self) -> None:
        """There is none any more; the client tells."""
        if self._connected.is_set():
            self._connected.clear()
            if not self.client.is_closed and not self.client.is_draining:
                logger.warning("the connection to the log is gone; trying again until it is back")

    async def on_reconnected(self) -> None:
        """There is one again; the client tells."""
        self._is_inbox_denied = False
        self._denied.clear()  # the server may have been given other permissions meanwhile
        self.mark_connected()
        logger.warning("connected to the log again")
        self.hold.begin()
        for callback in self.on_reconnect:
            callback()


@asynccontextmanager
async def connect(
    target: Target, clock: Clock, *, name: str = "fleetlog", patience_s: float = 5.0
) -> AsyncIterator[Connection]:
    """Opens a connection and closes it at the end of the block, after what was sent has left.

    Raises:
        Unavailable: no server answers within `patience_s`.
        ConfigError: the server refuses the credentials, or their file can't be read.
    """
    if target.creds is not None:
        check_creds(target.creds)
    client = LastingClient()
    connection = Connection(clock, client, Wire(client))
    await connection._open(target, name, patience_s)
    try:
        yield connection
    finally:
        connection.on_reconnect.clear()
        connection.on_denied.clear()
        try:
            if connection.is_connected:
                await connection.client.flush(timeout=2)
        except (nats.errors.Error, OSError) as error:
            logger.debug("closing: %s", _text(error))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.client.close()
        except (RuntimeError, TimeoutError) as error:
            # uvloop, where the server has just closed the socket under us; or one that takes nothing any more.
            logger.debug("closing: %s", error)
            client.abort()


def denial(subject: str) -> ConfigError:
    """The error for a subject that the server does not let this user publish to."""
    return ConfigError(
        f"this user has no permission to publish to {subject}: give it to the role in the server's"
        " configuration, or use the credentials of another one"
    )


def check_version(connection: Connection) -> None:
    """Refuses a server that fleetlog's promises do not hold on.

    Raises:
        ConfigError: it is older than `VERSION_MIN`.
    """
    version = connection.client.connected_server_version
    if (version.major, version.minor) < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        raise ConfigError(
            f"the server is nats-server {connection.server_version}, fleetlog needs {needed} or newer:"
            " upgrade it, or let `fleetlog up` run the one that was installed with fleetlog"
        )


def _text(error: BaseException | None) -> str:
    if error is None or (isinstance(error, TimeoutError) and not str(error)):
        return "no answer in time"
    return str(error) or type(error).__name__
