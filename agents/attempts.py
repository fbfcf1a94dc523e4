"""Attempts: from an offer and a slot to the outcome in the log, then the ack."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from fleetlog.agents import endings
from fleetlog.agents.alarm import Alarm
from fleetlog.agents.artifacts import ArtifactStore
from fleetlog.agents.attempt import Attempt, deadline_of, run_of
from fleetlog.agents.branching import Branching
from fleetlog.agents.claims import Claims
from fleetlog.agents.endings import End, Ending, Why
from fleetlog.agents.frames import Gather, Limited, Run, Spawn
from fleetlog.agents.outflow import Outflow
from fleetlog.agents.payloads import Payloads
from fleetlog.agents.recorder import Recorder
from fleetlog.agents.slots import Slot
from fleetlog.agents.wire import FrameTooLarge
from fleetlog.agents.worker_process import WorkerDied
from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.agents.worktrees.records import Tree
from fleetlog.agents.worktrees.worktrees import Lease, Worktrees
from fleetlog.bus.core import Cancel, Complete, Fail, Refusal, Return, Task, decide
from fleetlog.bus.errors import ObjectLost, TransportError
from fleetlog.bus.fanning_out import make_members
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.offers import Offer
from fleetlog.bus.rules import execute, load_task
from fleetlog.schemas.beats import OutputChunk
from fleetlog.schemas.events import TerminalEvent
from fleetlog.schemas.fan_outs import FanOutSpec, plan_under_budgets
from fleetlog.schemas.objects import INLINE_MAX_BYTES

logger = logging.getLogger("fleetlog.agents")

RECORD_PAUSE_S: Final = 1.0
HANDLER_MARGIN_S: Final = 1.0
PROGRAM_MARGIN_S: Final = 4.0
"""Behind its SIGKILL a program's descendants are found and ended, and its pipes read to their ends."""
T = TypeVar("T")


class Attempts:
    """All attempts of one agent. The supervisor gives it offers; it owns them until they are answered.

    Args:
        fleet: whose tasks.
        claims: how offers become leases.
        recorder: where refused results are recorded.
        outflow: where output goes.
        stop_s: from asking an attempt to stop to SIGKILL for its program; a bit later its worker is ended.
        worktrees: where commands run; None: in the agent's folder.
    """

    def __init__(
        self,
        fleet: Fleet,
        claims: Claims,
        recorder: Recorder,
        outflow: Outflow,
        *,
        stop_s: float,
        worktrees: Worktrees | None = None,
    ) -> None:
        self._fleet = fleet
        self._claims = claims
        self._recorder = recorder
        self._outflow = outflow
        self._payloads = Payloads(fleet.objects, fleet.system.clock)
        self._branching = Branching(fleet, self._payloads)
        self._artifacts = ArtifactStore(fleet.objects, fleet.system.clock)
        self._stop_s = stop_s
        self._worktrees = worktrees
        self._alarm = Alarm(fleet.system.clock, self._on_alarm)
        self._live: dict[int, Attempt] = {}
        self._newest: dict[str, Attempt] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def live(self) -> tuple[Attempt, ...]:
        """Those that are not answered yet."""
        return tuple(self._live.values())

    def find(self, task_id: str) -> Attempt | None:
        """The live attempt of a task; of two, the one with the later offer."""
        return self._newest.get(task_id)

    def adopt(self, offer: Offer) -> bool:
        """Takes a redelivery of an offer that is being worked on here; answers whether it was one."""
        attempt = self._live.get(offer.seq)
        if attempt is None:
            return False
        attempt.ack_subject = offer.ack_subject
        return True

    async def wait_idle(self) -> None:
        """Waits until none is live."""
        await self._idle.wait()

    async def run(self, offer: Offer, slot: Slot) -> None:
        """Claims, runs, records, acknowledges; frees the slot as soon as nothing of the attempt runs."""
        attempt = Attempt(offer, slot)
        self._live[offer.seq] = attempt
        self._supersede(attempt)
        self._idle.clear()
        try:
            await self._claim_and_run(attempt)
        except TransportError as error:
            # Nothing is lost: the offer was not acknowledged and comes again.
            logger.error("task %s: %s", offer.task_id, error)
        finally:
            slot.release()
            del self._live[offer.seq]
            if self._newest.get(offer.task_id) is attempt:
                del self._newest[offer.task_id]
            if not self._live:
                self._alarm.close()
                self._idle.set()

    def _supersede(self, attempt: Attempt) -> None:
        """The task may have another attempt here: one that still ends, or one of an offer later than this."""
        offer, other = attempt.offer, self._newest.get(attempt.offer.task_id)
        if other is not None and other.offer.seq > offer.seq:
            return
        if other is not None:
            # A task is offered anew only when its last attempt is over, whether that knows it or not.
            self.stop(other, "lost")
        self._newest[offer.task_id] = attempt

    def stop(self, attempt: Attempt, why: Why) -> None:
        """Ends the attempt: asks its worker, and ends the worker if it does not obey."""
        if attempt.why is not None or not attempt.is_running:
            return
        attempt.why = why
        loop = asyncio.get_running_loop()
        if attempt.preparing is not None:
            attempt.preparing.reschedule(loop.time())
            return
        worker = attempt.slot.worker
        worker.stop(attempt.fence, "cancel" if why == "lost" else why)
        attempt.kill = loop.call_later(self._patience_s(attempt), worker.kill)

    def _patience_s(self, attempt: Attempt) -> float:
        """How long a worker may take to end an attempt: a program is stopped in steps, a handler only asked."""
        spec = attempt.task.spec if attempt.task is not None else None
        if spec is not None and spec.executor == "python":
            return self._stop_s / 3 + HANDLER_MARGIN_S
        return self._stop_s + PROGRAM_MARGIN_S

    async def _claim_and_run(self, attempt: Attempt) -> None:
        attempt.drop_count = self._fleet.link.hold.drop_count
        task = await self._claims.claim(attempt.offer, attempt.slot.worker_id)
        if task is None:
            return
        attempt.task = task
        end = await self._work(attempt, task)
        attempt.slot.release()
        if attempt.spawns:
            await asyncio.wait(attempt.spawns)
        if attempt.tree is not None:
            end = await self._with_worktree(attempt, attempt.tree, end)
        if attempt.named and attempt.why != "lost":
            end = await self._with_artifacts(attempt, task, end)
        is_recorded = await self._record(attempt, task, end)
        if self._worktrees is not None and attempt.tree is not None:
            await self._worktrees.end(attempt.tree, is_recorded=is_recorded)

    async def _work(self, attempt: Attempt, task: Task) -> Ending:
        """Runs the attempt in its worker and says how it ended."""
        worker = attempt.slot.worker
        started = self._fleet.system.clock.monotonic()
        deadline = deadline_of(task)
        run = run_of(task, deadline)
        attempt.is_running = True
        self._watch(attempt, task, deadline)
        try:
            if task.spec is not None and task.spec.args_ref is not None:
                args = await self._prepare(attempt, self._payloads.fetch(task.spec.args_ref))
                run = msgspec.structs.replace(run, args=args)
            if task.spec is not None and task.spec.continues is not None:
                children = self._branching.write_children(task.spec.continues)
                attempt.children = await self._prepare(attempt, children)
                run = msgspec.structs.replace(run, children=str(attempt.children))
            if run.executor != "python" and self._is_worktree_wanted(task):
                run = await self._prepare(attempt, self._into_worktree(attempt, task, run))
            done = await worker.run(
                run,
                on_output=lambda chunks: self._on_output(attempt, task, chunks),
                on_alive=lambda: self._touch(attempt),
                on_artifact=attempt.named.append,
                on_wish=lambda wish: self._on_wish(attempt, task, wish),
            )
        except WorkerDied as death:
            ran_ms = round((self._fleet.system.clock.monotonic() - started) * 1000)
            return endings.of_death(
                self._end(attempt, task), death, ran_ms, is_wanted=worker.is_end_wanted
            )
        except FrameTooLarge as error:
            return endings.of_refused_run(self._end(attempt, task), str(error))
        except (ObjectLost, TransportError, TimeoutError) as error:
            return endings.of_missing_arguments(self._end(attempt, task), error)
        except WorktreeFailed as error:
            return endings.of_missing_worktree(self._end(attempt, task), error)
        finally:
            attempt.is_running = False
            for gather in attempt.gathers:
                gather.cancel()
            if attempt.children is not None:
                attempt.children.unlink(missing_ok=True)
            if attempt.kill is not None:
                attempt.kill.cancel()
        if isinstance(done.outcome, Limited):
            self._claims.gate.limited(done.outcome, task.id)
        return endings.of_done(self._end(attempt, task), done)

    def _on_wish(self, attempt: Attempt, task: Task, wish: Gather | Spawn) -> None:
        if isinstance(wish, Gather):
            doing, branches = self._gather(attempt, task, wish), attempt.gathers
        else:
            say = partial(self._on_log, attempt, task)
            doing, branches = self._branching.spawn(task, wish, say), attempt.spawns
        branch = asyncio.ensure_future(doing)
        branches.add(branch)
        branch.add_done_callback(branches.discard)

    async def _gather(self, attempt: Attempt, task: Task, wish: Gather) -> None:
        """Waits for what it gathers; meanwhile another attempt may run in its place, and it is not silent."""
        attempt.slot.lend()
        gathered = await self._branching.gather(task, wish)
        attempt.slot.worker.answer(gathered)
        if len(attempt.gathers) == 1:
            attempt.slot.retake()
            self._touch(attempt)
            self._alarm.by(attempt.touched_at + attempt.silence_s)

    async def _prepare(self, attempt: Attempt, preparing: Coroutine[Any, Any, T]) -> T:
        """What must be there before it runs; raises TimeoutError when the attempt was stopped meanwhile."""
        try:
            async with asyncio.timeout(None) as attempt.preparing:
                prepared = await preparing
        finally:
            attempt.preparing = None
        if attempt.why is not None:
            raise TimeoutError
        return prepared

    def _is_worktree_wanted(self, task: Task) -> bool:
        return self._worktrees is not None or (task.spec is not None and task.spec.repo is not None)

    async def _into_worktree(self, attempt: Attempt, task: Task, run: Run) -> Run:
        """Makes the attempt's worktree; raises WorktreeFailed."""
        assert task.spec is not None
        if self._worktrees is None:
            raise WorktreeFailed(
                f"the task names the repository {task.spec.repo}, and its agent was given none:"
                " start one with --worktree, and submit the task to a queue of its own",
                is_permanent=True,
            )
        lease = Lease(task_id=task.id, attempt=run.attempt, fence=run.fence, repo=task.spec.repo)
        made = await self._worktrees.make(lease, lambda text: self._on_log(attempt, task, text))
        attempt.tree = made.tree
        return msgspec.structs.replace(run, workdir=str(made.tree.path), env=made.env)

    async def _with_worktree(self, attempt: Attempt, tree: Tree, end: Ending) -> Ending:
        """The end with where the attempt's work stands; its folder stays if a person may want to look."""
        assert self._worktrees is not None
        is_asking = isinstance(end, Return) and end.question is not None
        is_kept = attempt.why == "lost" or isinstance(end, Fail | Cancel) or is_asking
        attempt.tree, report = await self._worktrees.save(tree, is_kept=is_kept)
        return msgspec.structs.replace(end, worktree=report)

    def _end(self, attempt: Attempt, task: Task) -> End:
        return End(
            id=self._fleet.system.new_id(),
            task=task,
            why=attempt.why,
            jitter=self._fleet.system.entropy.random(),
        )

    async def _with_artifacts(self, attempt: Attempt, task: Task, end: Ending) -> Ending:
        """The end with the files that the attempt left; about what can't be stored its output has a line."""
        artifacts, troubles = await self._artifacts.store(attempt.named)
        for text in troubles:
            self._on_log(attempt, task, text)
        return msgspec.structs.replace(end, artifacts=artifacts)

    async def _record(self, attempt: Attempt, task: Task, end: Ending) -> bool:
        """Appends the outcome, for as long as it takes, then acknowledges; False if it was refused."""
        await self._outflow.flush(task.id)
        if isinstance(end, Complete) and len(memoryview(end.result)) > INLINE_MAX_BYTES:
            end = await self._payloads.store_result(end)
        plan = end.fan_out if isinstance(end, Complete) else None
        if isinstance(end, Complete) and plan is not None:
            plan = await self._payloads.store_args(plan_under_budgets(plan, task.budget_keys))
            end = await self._payloads.store_plan(end, plan)
        known = task
        while True:
            try:
                if attempt.drop_count != self._fleet.link.hold.drop_count:
                    # The log may have lost the claim, and another event may be in its place.
                    known = await load_task(self._fleet.log, task.id)
                decided = await execute(self._fleet.log, end, known)
                break
            except TransportError as error:
                logger.error("the outcome of task %s waits to be recorded: %s", task.id, error)
                await self._fleet.system.clock.sleep(RECORD_PAUSE_S)
        if isinstance(decided, Refusal):
            self._on_refused(attempt, task, end)
            return False
        self._fleet.offers.ack(attempt.ack_subject)
        if isinstance(decided.event, TerminalEvent):
            self._fleet.hints.publish(task.id, decided.seq)
        if plan is not None:
            await self._make_members(task, plan)
        return True

    async def _make_members(self, task: Task, plan: FanOutSpec) -> None:
        """What follows from the fan-out that the outcome holds; what this leaves the coordinator does."""
        try:
            await make_members(self._fleet, task.id, plan)
        except TransportError as error:
            logger.warning("the members of fan-out %s wait for a coordinator: %s", task.id, error)

    def _on_refused(self, attempt: Attempt, task: Task, end: Ending) -> None:
        # What it would have been, had the lease still been ours.
        event = decide(end, task, self._fleet.log.now())
        if isinstance(event, Refusal) or task.lease is None:
            return
        logger.warning(
            "task %s: the lease was lost; the result of attempt %d is refused",
            task.id,
            task.lease.attempt,
        )
        worker_id = attempt.slot.worker_id
        self._recorder.refused(worker_id, task.id, task.lease.attempt, task.lease.fence, event)

    def _watch(self, attempt: Attempt, task: Task, deadline: datetime | None) -> None:
        assert task.spec is not None
        assert task.lease is not None
        now = self._fleet.system.clock.monotonic()
        attempt.touched_at = now
        if deadline is not None:
            # It was claimed this moment.
            attempt.ends_at = now + (deadline - task.lease.claimed_at).total_seconds()
        if task.spec.silence_ms is not None:
            attempt.silence_s = task.spec.silence_ms / 1000
        self._alarm.by(min(attempt.ends_at, attempt.silent_at))

    def _on_alarm(self) -> None:
        now = self._fleet.system.clock.monotonic()
        watched = [attempt for attempt in self._live.values() if attempt.is_watched]
        for attempt in watched:
            if attempt.ends_at <= now:
                self.stop(attempt, "timeout")
            elif attempt.silent_at <= now:
                self.stop(attempt, "silence")
            else:
                self._alarm.by(min(attempt.ends_at, attempt.silent_at))

    def _touch(self, attempt: Attempt) -> None:
        attempt.touched_at = self._fleet.system.clock.monotonic()

    def _on_log(self, attempt: Attempt, task: Task, text: str) -> None:
        now = self._fleet.system.clock.now()
        self._on_output(attempt, task, [OutputChunk(stream="log", text=text, occurred_at=now)])

    def _on_output(self, attempt: Attempt, task: Task, chunks: Sequence[OutputChunk]) -> None:
        self._touch(attempt)
        self._outflow.put(task.id, task.attempts, list(chunks))
