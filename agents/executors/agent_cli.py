"""Executors for agent CLIs (`claude`, `codex`, …): a prompt in, an answer out, no exit code believed alone."""

from __future__ import annotations

import os
import tempfile
import uuid
from asyncio import get_running_loop
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.asking import with_answers
from fleetlog.agents.executors.attempt import Attempt, Ended
from fleetlog.agents.executors.cli_stream import fields_of
from fleetlog.agents.executors.conversation import DELAYS_MS, SETTLED_STOP_S, Conversation
from fleetlog.agents.executors.lines import Tail
from fleetlog.agents.executors.profiles import CredentialMode, Profile
from fleetlog.agents.executors.programs import (
    Launch,
    Program,
    Text,
    Variable,
    attempt_environment,
    existing_folder,
    not_started,
)
from fleetlog.agents.frames import (
    Failed,
    Limited,
    Outcome,
    Run,
    Stopped,
    Succeeded,
    Utilization,
    clip,
)
from fleetlog.schemas.questions import answer_text

GO_ON: Final = "You were interrupted. Go on where you left off; this is what you were asked to do:"
"""Stands before the prompt when a session goes on."""
_PREFLIGHT_S: Final = 15.0
_PREFLIGHT_CHARS_MAX: Final = 64 * 1024
_READY_S: Final = 60.0

# None of them may look like an option of the CLI.
Word = Annotated[str, Meta(pattern="^[^-\\x00][^\\x00]*$", max_length=200)]


class AgentCliArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a task for an agent CLI."""

    prompt: Annotated[str, Meta(min_length=1)]
    """What it shall do. It gets it on stdin or in a private file, never as an argument."""
    model: Word | None = None
    """Which model; the CLI's own choice if not given."""
    max_budget_usd: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    """It stops when it has cost more; looked at after each request, so that it overshoots by one."""
    resume: Word | None = None
    """The session to go on with."""
    keep_session: bool = False
    """A further attempt goes on with the session of the one before, and with an affinity the next task does."""
    credential: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    """Which credential it uses; by default the one named like its profile."""
    args: list[Text] = []
    """More arguments of the CLI."""
    env: dict[Variable, Text] | None = None
    """Added to the environment."""
    cwd: Text | None = None
    """Where it runs, seen from its worktree or else from the agent's folder; there if not given."""


_decoder: Final = msgspec.json.Decoder(AgentCliArgs)


class AgentCliExecutor:
    """Runs one agent CLI.

    Args:
        name: the profile's, which is also the executor's.
        profile: how the CLI is found, started and read.
        environ: all of the worker's environment, of which the CLI sees what the profile lets through.
        mark: unique to this worker; finds processes that left their group.
        stop_s: from SIGINT to SIGKILL.
        credentials: the mode of each named credential; `session` for those not named.
    """

    def __init__(
        self,
        name: str,
        profile: Profile,
        environ: Mapping[str, str],
        *,
        mark: str,
        stop_s: float,
        credentials: Mapping[str, CredentialMode],
    ) -> None:
        self._name = name
        self._profile = profile
        self._environ = environ
        self._mark = mark
        self._stop_s = stop_s
        self._credentials = credentials
        self._ready_until: dict[str, float] = {}

    async def run(self, attempt: Attempt) -> Ended:
        """See `Executor`."""
        if attempt.is_stopping:
            return Ended(Stopped())
        try:
            args = _decoder.decode(attempt.run.args)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = f"the arguments do not fit the executor {self._name}: {error}"
            return Ended(Failed("invalid_input", clip(text), is_permanent=True))
        workdir = existing_folder(args.cwd, attempt.run.workdir)
        refusal = workdir if isinstance(workdir, Failed) else self._refusal(args)
        if refusal is not None or isinstance(workdir, Failed):
            return Ended(refusal or Stopped())
        program = self._profile.find(self._environ)
        if program is None:
            return Ended(self._not_found())
        environ = self._environment(attempt, args, workdir)
        try:
            trouble = await self._preflight(attempt, args, program, environ)
            if trouble is not None:
                return Ended(trouble)
            if (further := self._further(args, attempt.run)) is not None:
                ended = await self._run(attempt, further, program, environ)
                if not _is_session_gone(ended):
                    return ended
            return await self._run(attempt, _anew(args, attempt.run), program, environ)
        except OSError as error:
            return Ended(not_started(program, error))

    async def _run(
        self, attempt: Attempt, args: AgentCliArgs, program: str, environ: Mapping[str, str]
    ) -> Ended:
        with _prompt_file(args.prompt, self._wants_file) as prompt_file:
            launch = Launch(
                argv=[program, *self._argv(args, prompt_file)],
                environ=environ,
                stdin=b"" if self._wants_file else args.prompt.encode("utf-8", "replace"),
            )
            conversation = Conversation(
                attempt,
                self._profile,
                Program(attempt, launch, stop_s=self._stop_s),
                is_resumed=args.resume is not None,
            )
            exit_code = await conversation.run()
        credential = self._credential(args)
        outcome = conversation.outcome(exit_code, credential)
        self._ready_until.pop(credential, None)
        if isinstance(outcome, Succeeded):
            self._ready_until[credential] = attempt.clock.monotonic() + _READY_S
        stream = conversation.stream
        return Ended(
            outcome,
            exit_code,
            stream.usage(),
            stream.session_id,
            tuple(
                Utilization(credential, window.name, window.utilization, window.resets_at)
                for window in stream.windows
            ),
        )

    def _further(self, args: AgentCliArgs, run: Run) -> AgentCliArgs | None:
        """What to say to the session of the attempt before; None: it begins anew."""
        if run.session_id is None or self._profile.resume is None:
            return None
        if run.answers:
            return msgspec.structs.replace(
                args, prompt=answer_text(run.answers[-1]) or "-", resume=run.session_id
            )
        if not args.keep_session:
            return None
        if run.attempt > 1:
            return _going_on(args, run)
        # The session of the task before it that has the same affinity.
        return msgspec.structs.replace(args, resume=args.resume or run.session_id)

    async def _preflight(
        self, attempt: Attempt, args: AgentCliArgs, program: str, environ: Mapping[str, str]
    ) -> Outcome | None:
        """Asks the CLI whether it is logged in; what it can't answer, its run will tell."""
        credential = self._credential(args)
        is_known = self._ready_until.get(credential, 0.0) > attempt.clock.monotonic()
        if not self._profile.preflight or is_known:
            return None
        launch = Launch(
            argv=[program, *self._profile.preflight],
            environ=environ,
            stdin=b"",
        )
        said = Tail(_PREFLIGHT_CHARS_MAX)
        asking = Program(attempt, launch, stop_s=SETTLED_STOP_S)
        timer = get_running_loop().call_later(_PREFLIGHT_S, asking.end)
        try:
            await asking.run(said.add, lambda _: None)
        finally:
            timer.cancel()
        if attempt.is_stopping:
            return Stopped()
        status = fields_of(said.text())
        if status is None or status.get("loggedIn") is not False:
            self._ready_until[credential] = attempt.clock.monotonic() + _READY_S
            return None
        text = f"{self._name} is not logged in on this host{self._hint(credential)}"
        return Limited("auth", text, None, credential, DELAYS_MS["auth"])

    def _hint(self, credential: str) -> str:
        hidden = [name for name in self._profile.keys if name in self._environ]
        if self._mode(credential) == "session" and hidden:
            return (
                f": {hidden[0]} is in the agent's environment, but the credential {credential!r} is of mode"
                f" session; log in, or start the agent with --credential {credential}=key"
            )
        return ": log in there as the user who runs the agent"

    def _refusal(self, args: AgentCliArgs) -> Failed | None:
        """What is asked for that this CLI has not."""
        asked = {
            "model": (args.model, self._profile.model),
            "max_budget_usd": (args.max_budget_usd, self._profile.budget),
            "resume": (args.resume, self._profile.resume),
            "keep_session": (args.keep_session or None, self._profile.resume),
        }
        for name, (wanted, template) in asked.items():
            if wanted is not None and template is None:
                text = f"the executor {self._name} knows no {name}: leave it out"
                return Failed("invalid_input", text, is_permanent=True)
        return None

    def _not_found(self) -> Failed:
        variable = self._profile.path_variable
        where = f", or set {variable} in the agent's environment" if variable else ""
        text = f"there is no {self._profile.program} on this host: install it{where}"
        return Failed("permanent", text, is_permanent=True)

    def _credential(self, args: AgentCliArgs) -> str:
        return args.credential or self._name

    def _mode(self, credential: str) -> CredentialMode:
        return self._credentials.get(credential, "session")

    @property
    def _wants_file(self) -> bool:
        return any("{prompt_file}" in each for each in self._profile.argv)

    def _environment(self, attempt: Attempt, args: AgentCliArgs, workdir: Path) -> dict[str, str]:
        return {
            **self._profile.environment(self._environ, self._mode(self._credential(args))),
            **(attempt.run.env or {}),
            **(attempt.run.env or {}),
            **(args.env or {}),
            **attempt_environment(attempt.run, worker_mark=self._mark, workdir=workdir),
        }

    def _argv(self, args: AgentCliArgs, prompt_file: str) -> list[str]:
        profile = self._profile
        template = [*profile.argv]
        template += (profile.resume or ()) if args.resume is not None else profile.new_session
        if args.model is not None:
            template += profile.model or ()
        if args.max_budget_usd is not None:
            template += profile.budget or ()
        values = {
            "{session_id}": str(uuid.uuid4()),
            "{resume}": args.resume or "",
            "{model}": args.model or "",
            "{budget_usd}": format(args.max_budget_usd or 0.0, "f").rstrip("0").rstrip("."),
            "{prompt_file}": prompt_file,
        }
        return [_filled(each, values) for each in template] + args.args + list(profile.last)


def _going_on(args: AgentCliArgs, run: Run) -> AgentCliArgs:
    prompt = f"{GO_ON}\n\n{args.prompt}"
    return msgspec.structs.replace(args, prompt=prompt, resume=run.session_id)


def _anew(args: AgentCliArgs, run: Run) -> AgentCliArgs:
    return msgspec.structs.replace(args, prompt=with_answers(args.prompt, run.answers))


def _is_session_gone(ended: Ended) -> bool:
    """It can't be resumed, on another host for one, and nothing was used for it."""
    outcome = ended.outcome
    return isinstance(outcome, Failed) and outcome.is_permanent and ended.usage is None


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


@contextmanager
def _prompt_file(prompt: str, is_wanted: bool) -> Iterator[str]:  # noqa: FBT001 - private
    """A file with the prompt that nobody else may read, for CLIs that take no stdin."""
    if not is_wanted:
        yield ""
        return
    fd, path = tempfile.mkstemp(prefix="fleetlog-prompt-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(prompt.encode("utf-8", "replace"))
        yield path
    finally:
        Path(path).unlink(missing_ok=True)
