"""One run of an agent CLI: it must start, speak and end in time, and what it said decides what it comes to."""

from __future__ import annotations

from asyncio import TaskGroup
from datetime import datetime
from typing import Final, Literal

import msgspec

from fleetlog.agents.executors.asking import asked_in
from fleetlog.agents.executors.attempt import Attempt
from fleetlog.agents.executors.cli_stream import Bad, CliStream, Good
from fleetlog.agents.executors.exec_v1 import too_large
from fleetlog.agents.executors.lines import JSON_CHARS_MAX, Tail
from fleetlog.agents.executors.profiles import STREAMS, Profile
from fleetlog.agents.executors.programs import Program
from fleetlog.agents.frames import Failed, Limited, Outcome, Stopped, Succeeded, clip
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES

SETTLED_STOP_S: Final = 3.0
"""From SIGINT to SIGKILL of one that has said its last word."""
_STDERR_CHARS_MAX: Final = 4 * 1024
_WATCH_S: Final = 1.0

DELAYS_MS: Final = {
    "throttled": 60_000,
    "usage_limit": 900_000,
    "auth": 300_000,
    "billing": 900_000,
}
"""How long a credential is left alone when nobody said until when."""

_Why = Literal["startup", "silence", "settled"]


class Conversation:
    """One run of the CLI, and the three times that it must keep: to start, to speak, and to end."""

    def __init__(
        self, attempt: Attempt, profile: Profile, program: Program, *, is_resumed: bool
    ) -> None:
        self._attempt = attempt
        self._profile = profile
        self._program = program
        self._stderr = Tail(_STDERR_CHARS_MAX)
        self._heard_at = attempt.clock.monotonic()
        self._has_news = False
        self._is_cut = False
        self._why: _Why | None = None
        self._stall: Failed | None = None
        self.stream: CliStream = STREAMS[profile.parser](profile.prices, is_resumed=is_resumed)

    async def run(self) -> int:
        """To its end; answers the exit code."""
        self._heard_at = self._attempt.clock.monotonic()
        async with TaskGroup() as tasks:
            watch = tasks.create_task(self._watch())
            try:
                return await self._program.run(self._take_stdout, self._take_stderr)
            finally:
                watch.cancel()

    def outcome(self, exit_code: int, credential: str) -> Outcome:
        """What the run comes to."""
        now = self._attempt.clock.now()
        # Ended by us behind its result: then the code says nothing.
        code = 0 if self.stream.has_result and self._why == "settled" else exit_code
        verdict = self.stream.verdict(code, self._stderr.text(), now)
        if isinstance(verdict, Good):
            return _succeeded(verdict)
        if self._attempt.is_stopping:
            return Stopped()
        if self._stall is not None:
            error = clip(f"{self._stall.error}\n{self._stderr.text()}".strip())
            return Failed(self._stall.error_class, error)
        if self._is_cut and verdict.error_class == "protocol":
            return too_large(f"more than {JSON_CHARS_MAX}")
        return _failed(verdict, credential, now)

    def _take_stdout(self, line: str) -> None:
        self._note_sign()
        if self._why == "settled":
            # It has been told to end; what it says about that is not its result.
            return
        self._is_cut |= len(line) > JSON_CHARS_MAX
        for said in self.stream.feed(line):
            self._attempt.output.write(said.stream, said.text)

    def _take_stderr(self, text: str) -> None:
        self._note_sign()
        self._stderr.add(text)
        self._attempt.output.write("stderr", text)

    def _note_sign(self) -> None:
        self._heard_at = self._attempt.clock.monotonic()
        self._has_news = True
        self._attempt.alive()

    async def _watch(self) -> None:
        clock = self._attempt.clock
        while True:
            limit_s, why = self._limit()
            left_s = self._heard_at + limit_s - clock.monotonic()
            if left_s <= 0:
                self._why = why
                if why != "settled":
                    self._stall = Failed(why, self._described(why, limit_s))
                self._program.end(SETTLED_STOP_S if why == "settled" else None)
                return
            await clock.sleep(min(left_s, _WATCH_S))
            self._tell()

    def _limit(self) -> tuple[float, _Why]:
        """How long it may be silent now."""
        if self.stream.has_result:
            return self._profile.settled_s, "settled"
        if self.stream.is_in_tool:
            return self._profile.tool_s, "silence"
        if not self.stream.has_started:
            return self._profile.startup_s, "startup"
        return self._profile.idle_s, "silence"

    def _tell(self) -> None:
        """Passes on what it has used; while a tool runs, its silence is none."""
        usage = self.stream.usage() if self._has_news else None
        self._has_news = False
        if usage is not None:
            self._attempt.used(usage)
        elif self.stream.is_in_tool:
            self._attempt.alive()

    def _described(self, why: _Why, limit_s: float) -> str:
        if why == "startup":
            return f"it did not come up within {limit_s:g} s"
        what = "a tool" if self.stream.is_in_tool else "no tool"
        return f"it said nothing for {limit_s:g} s while {what} ran"


def _succeeded(verdict: Good) -> Outcome:
    if (asked := asked_in(verdict.result)) is not None:
        return asked
    result = msgspec.json.encode(verdict.result)
    return Succeeded(result) if len(result) <= PAYLOAD_MAX_BYTES else too_large(str(len(result)))


def _failed(verdict: Bad, credential: str, now: datetime) -> Outcome:
    error = clip(verdict.error)
    match verdict.error_class:
        case "throttled" | "usage_limit" | "auth" | "billing" as trouble:
            delay_ms = DELAYS_MS[trouble]
            if verdict.until is not None and verdict.until > now:
                delay_ms = round((verdict.until - now).total_seconds() * 1000)
            return Limited(trouble, error, verdict.until, credential, delay_ms)
        case kind:
            return Failed(kind, error, verdict.is_permanent)
