"""What a supervisor and its workers say to each other: msgspec structs, as msgpack, over a socketpair.

A frame is four bytes of length (big endian) and one msgpack array of messages; `agents/wire.py` moves frames.
Both ends are the same installed version, so there is no version in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from fleetlog.schemas.beats import OutputChunk
from fleetlog.schemas.events import ErrorClass, Usage
from fleetlog.schemas.questions import Answer

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""One message; a larger one is refused at the sender."""
ERROR_BYTES_MAX: Final = 8 * 1024
"""An error's text."""

StopWhy = Literal["timeout", "cancel", "drain", "silence"]


class Run(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="run"):
    """Run one attempt."""

    run_id: int
    """Names the attempt on this socket, chosen by the supervisor, never used twice; the fence does well."""
    task_id: str
    """Also the handler's idempotency key."""
    attempt: int
    """1 for the first claim."""
    fence: int
    """The log sequence of the claim."""
    executor: str
    """How to run it: `python`, `command`."""
    handler: str
    """The Python handler's name; a label for a command."""
    args: bytes = b"{}"
    """One JSON object."""
    deadline: datetime | None = None
    """When the attempt's time is up; told to the handler, kept by the supervisor."""
    labels: dict[str, str] = {}
    """The task's."""
    parent_id: str | None = None
    """The task that caused this one."""
    traceparent: str | None = None
    """The trace that the attempt belongs to."""
    session_id: str | None = None
    """The last session of an agent CLI that worked on the task."""
    workdir: str | None = None
    """The folder that was made for this attempt, its worktree; None: the agent's own folder."""
    children: str | None = None
    """The file with the members' outcomes, for a continuation: a `Child` as JSON in each line."""
    env: dict[str, str] | None = None
    """What its environment has besides, such as the identity of its commits; the task's own goes before."""
    answers: tuple[Answer, ...] = ()
    """What earlier attempts asked, and was answered."""


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """End one attempt; `Done` follows, unless the handler does not obey."""

    run_id: int
    """Which attempt; one that has ended already is ignored."""
    why: StopWhy
    """Told to nobody but the log."""


class Gathered(msgspec.Struct, frozen=True, array_like=True, tag="gathered"):
    """What an attempt waited for has settled, or will not."""

    run_id: int
    """Which attempt."""
    barrier_id: str
    """Which barrier."""
    children: str | None
    """The file with the outcomes, as `Run.children`; whoever reads it removes it."""
    error: str | None = None
    """Why there are none."""


class Exit(msgspec.Struct, frozen=True, array_like=True, tag="exit"):
    """End the worker: whatever still runs in it is stopped."""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker has loaded its app and takes attempts."""

    handlers: dict[str, bytes]
    """By name, the JSON Schema of each handler's arguments."""


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The app cannot be loaded; the worker ends."""

    error: str
    """For people."""


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """An attempt has started a process; whoever outlives the worker ends its group."""

    run_id: int
    """Which attempt."""
    pgid: int | None = None
    """The process group."""


class Output(msgspec.Struct, frozen=True, array_like=True, tag="output"):
    """Output of an attempt, in order."""

    run_id: int
    """Which attempt."""
    chunks: list[OutputChunk]
    """At most about 64 KiB of text."""


class Alive(msgspec.Struct, frozen=True, array_like=True, tag="alive"):
    """The attempt gave a sign of life that is not output."""

    run_id: int
    """Which attempt."""


class Used(msgspec.Struct, frozen=True, array_like=True, tag="used"):
    """What the attempt has used so far, once a second at most; also a sign of life."""

    run_id: int
    """Which attempt."""
    usage: Usage
    """From its start; a cost that is not known yet is estimated."""


class ArtifactNamed(msgspec.Struct, frozen=True, array_like=True, tag="artifact"):
    """The attempt leaves a file behind; the supervisor stores it when the attempt has ended."""

    run_id: int
    """Which attempt."""
    root: str
    """The folder that the file must be in."""
    path: str
    """From there, or absolute."""
    name: str | None = None
    """What to call it; the file's own name if not given."""
    media_type: str | None = None
    """What kind of file; guessed from its name if not given."""


class Gather(msgspec.Struct, frozen=True, array_like=True, tag="gather"):
    """The attempt waits for other tasks; `Gathered` answers."""

    run_id: int
    """Which attempt."""
    barrier_id: str
    """Its barrier; the same in every attempt of the task."""
    plan: bytes
    """A `FanOutSpec` as JSON."""


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag="spawn"):
    """The attempt makes a task of its own, and does not wait for it."""

    run_id: int
    """Which attempt."""
    task_id: str
    """The new task; the same in every attempt."""
    spec: bytes
    """A `TaskSpec` as JSON."""


class Succeeded(msgspec.Struct, frozen=True, array_like=True, tag="succeeded"):
    """The attempt gave a result."""

    result: bytes
    """One JSON value, at most `PAYLOAD_MAX_BYTES`."""
    fan_out: bytes | None = None
    """Instead of a result: a `FanOutSpec` as JSON."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The attempt failed; it counts."""

    error_class: ErrorClass
    """The kind of failure."""
    error: str
    """For people, at most `ERROR_BYTES_MAX`."""
    is_permanent: bool = False
    """Trying again is useless."""
    delay_ms: int | None = None
    """The attempt's own wish for the wait, instead of the task's backoff."""


class Deferred(msgspec.Struct, frozen=True, array_like=True, tag="deferred"):
    """The attempt asks for another time without blame; it does not count."""

    error: str
    """For people."""
    delay_ms: int
    """Not before this."""


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """The attempt needs an answer of a person, and another one goes on with it; it does not count."""

    question: str
    """For people, at most `ERROR_BYTES_MAX`."""
    choices: tuple[str, ...] = ()
    """What may be answered; empty: anything."""


class Limited(msgspec.Struct, frozen=True, array_like=True, tag="limited"):
    """The attempt ended because its credential can't be used now; it is given back and does not count."""

    error_class: Literal["throttled", "usage_limit", "auth", "billing"]
    """What is wrong with the credential."""
    error: str
    """For people."""
    until: datetime | None
    """When it can be used again; None when nobody said so."""
    credential: str
    """Its name within the fleet."""
    delay_ms: int = 0
    """Until `until`, or a guess: the task is not offered again before this."""


class Cancelled(msgspec.Struct, frozen=True, array_like=True, tag="cancelled"):
    """The handler itself called the task off."""

    reason: str
    """In the handler's words."""


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag="stopped"):
    """The attempt ended without a result because of `Stop`, or because its worker was told to end."""


Outcome = Succeeded | Failed | Deferred | Asked | Limited | Cancelled | Stopped


class Utilization(msgspec.Struct, frozen=True, array_like=True, tag="utilization"):
    """How much of a credential's allowance is used."""

    credential: str
    """Its name within the fleet."""
    window: str
    """Which allowance, in the service's words, such as `five_hour`."""
    utilization: float
    """0 to 1, and above where the service allows more."""
    resets_at: datetime | None = None
    """When the allowance begins anew."""


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """The attempt has ended; nothing of it runs any more. The last word about its `run_id`."""

    run_id: int
    """Which attempt."""
    outcome: Outcome
    """How."""
    ran_ms: int
    """From its start to its end, on the worker's clock."""
    exit_code: int | None = None
    """Of a command, negative for a signal."""
    usage: Usage | None = None
    """What the attempt said that it used."""
    session_id: str | None = None
    """The session of an agent CLI."""
    utilizations: tuple[Utilization, ...] = ()
    """What was said last about each allowance of the attempt's credential."""


ToWorker = Run | Stop | Exit | Gathered
ToSupervisor = (
    Ready | Broken | Started | Output | Alive | Used | ArtifactNamed | Gather | Spawn | Done
)

to_worker_decoder: Final = msgspec.msgpack.Decoder(list[ToWorker])
to_supervisor_decoder: Final = msgspec.msgpack.Decoder(list[ToSupervisor])


def clip(text: str, max_bytes: int = ERROR_BYTES_MAX) -> str:
    """`text` in at most `max_bytes` of UTF-8: the middle is left out, what cannot be encoded is replaced."""
    data = text.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode()
    mark = " […] "
    half = (max_bytes - len(mark.encode())) // 2
    return data[:half].decode(errors="ignore") + mark + data[-half:].decode(errors="ignore")
