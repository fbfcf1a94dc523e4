"""Cancelling tasks, one or many, and telling what became of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import typer

from fleetlog.bus.background import background
from fleetlog.bus.cancelling import Asked, Ends, cancel_task
from fleetlog.bus.client import Client
from fleetlog.bus.errors import AlreadySettled, Refused, TaskNotFound
from fleetlog.bus.fanning_out import load_members
from fleetlog.bus.many import each_of
from fleetlog.bus.waiting import fan_out_of
from fleetlog.cli.actor import actor
from fleetlog.cli.choosing import Choice, Chosen, choose, chosen_of
from fleetlog.cli.confirming import confirm, counting
from fleetlog.cli.failures import REFUSED, TIMED_OUT, say
from fleetlog.cli.outcomes import outcome_fields
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.fan_outs import FanOutSpec

_ENDS_MAX: Final = 200
"""Members of a fan-out that are waited for at once."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    task_ids: tuple[str, ...] = ()
    """Named one by one."""
    choice: Choice | None = None
    """Or by what they have in common."""
    reason: str | None = None
    """Why."""
    is_waiting: bool = False
    """Until nothing of them runs."""
    wait_timeout_s: float | None = None
    """No longer than this."""
    is_dry: bool = False
    """Only say which."""
    is_sure: bool = False
    """Don't ask."""
    is_json: bool = False
    """For programs."""


async def cancel_all(client: Client, wanted: Wanted) -> int:
    """Cancels the tasks; one that can't be cancelled keeps none of the others. Answers the exit code."""
    if wanted.choice is None:
        named = [Chosen(task_id, "", None, None) for task_id in dict.fromkeys(wanted.task_ids)]
        if wanted.is_dry:
            return await _tell_named(client, wanted)
        return await _Cancelling(client, wanted).run(named)
    chosen = await choose(client, wanted.choice)
    if wanted.is_dry:
        return _tell_chosen(chosen, is_json=wanted.is_json)
    if not chosen:
        say("no such task is unsettled: nothing was cancelled")
    if len(chosen) > 1:
        confirm(f"cancel {len(chosen)} tasks{_states_text(chosen)}", is_sure=wanted.is_sure)
    return await _Cancelling(client, wanted).run(chosen)


class _Cancelling:
    def __init__(self, client: Client, wanted: Wanted) -> None:
        self._client = client
        self._wanted = wanted
        self._ends = Ends(client.fleet)
        self._answers: dict[str, Asked] = {}
        self._fan_outs: dict[str, FanOutSpec] = {}
        self._actor = actor()
        self._is_refused = False

    async def run(self, chosen: Sequence[Chosen]) -> int:
        is_in_time = True
        if self._wanted.is_waiting:
            end = await self._client.fleet.log.end()
            async with background(self._ends.follow(after=end)):
                try:
                    async with asyncio.timeout(self._wanted.wait_timeout_s):
                        await self._rounds(chosen)
                except TimeoutError:
                    is_in_time = False
        else:
            await self._rounds(chosen)
        rows = [self._row(task_id) for task_id in self._answers]
        if self._wanted.is_json:
            write_json(rows)
        if not is_in_time:
            left = sum(row["state"] == "cancel_requested" for row in rows)
            say(f"{left} of {len(rows)} still run; their agents go on ending them")
            return TIMED_OUT
        is_as_wanted = self._wanted.choice is not None or all(
            row["state"] == "cancelled" for row in rows
        )
        return (
            REFUSED if self._is_refused or not (is_as_wanted or not self._wanted.is_waiting) else 0
        )

    async def _rounds(self, chosen: Sequence[Chosen]) -> None:
        """Of a tree, again until there is nothing new: what still runs may cause more until it has ended."""
        fresh = list(chosen)
        while fresh:
            await self._round([each.task_id for each in fresh])
            choice = self._wanted.choice
            if choice is None or not choice.tree_of:
                return
            found = await choose(self._client, choice)
            fresh = [each for each in found if each.task_id not in self._answers]

    async def _round(self, task_ids: list[str]) -> None:
        self._ends.expect(task_ids)
        with counting("cancelling", len(task_ids)) as count:
            async for task_id, answer in each_of(task_ids, self._ask):
                count()
                if isinstance(answer, Refused):
                    say(f"Error: {answer}")
                    self._is_refused = True
                    continue
                if answer.outcome is None:
                    await self._note_fan_out(task_id)
                self._answers[task_id] = answer
                if not self._wanted.is_waiting:
                    self._tell(task_id)
        asked = [each for each in task_ids if each in self._answers]
        if self._wanted.is_waiting:
            with counting("waiting for their ends", len(asked)) as count:
                for task_id in asked:
                    if task_id in self._fan_outs:
                        await self._wait_for_fan_out(task_id)
                    elif self._answers[task_id].outcome is None:
                        await self._ends.wait((task_id,))
                    count()
                    self._tell(task_id)

    async def _ask(self, task_id: str) -> Asked | Refused:
        try:
            asked = await cancel_task(
                self._client.fleet, task_id, reason=self._wanted.reason, actor=self._actor
            )
        except Refused as error:
            return error
        if asked.is_late and asked.outcome is not None and self._wanted.choice is None:
            return AlreadySettled(
                f"task {task_id} is {asked.outcome.state} already; nothing was changed"
            )
        return asked

    async def _note_fan_out(self, task_id: str) -> None:
        settled = await self._client.waiting.settled(task_id)
        if settled is not None and (fan_out := fan_out_of(settled)) is not None:
            self._fan_outs[task_id] = fan_out

    async def _wait_for_fan_out(self, task_id: str) -> None:
        """Until its continuation and all members that it has made are cancelled or have ended."""
        client = self._client
        self._ends.outcomes[task_id] = await client.result(task_id, is_fetched=False)
        members = await load_members(client.fleet.objects, self._fan_outs[task_id])
        made = [member.task_id for member in members if member.spec is not None]

        async def end(member_id: str) -> None:
            with suppress(TaskNotFound):  # nobody has made it, and now nobody will
                await client.result(member_id, is_fetched=False)

        async for _ in each_of(made, end, in_flight_max=_ENDS_MAX):
            pass

    def _row(self, task_id: str) -> dict[str, object]:
        outcome = self._answers[task_id].outcome or self._ends.outcomes.get(task_id)
        if outcome is None:
            return {"task_id": task_id, "state": "cancel_requested"}
        return outcome_fields(outcome)

    def _tell(self, task_id: str) -> None:
        if self._wanted.is_json:
            return
        state = self._row(task_id)["state"]
        late = " already" if self._answers[task_id].is_late else ""
        text = "is asked to end" if state == "cancel_requested" else f"is {state}{late}"
        if task_id in self._fan_outs:
            what = "are asked to end" if state == "cancel_requested" else f"have ended: {state}"
            text = f"has fanned out; its members and what follows them {what}"
        typer.echo(f"task {task_id} {text}")


async def _tell_named(client: Client, wanted: Wanted) -> int:
    named = dict.fromkeys(wanted.task_ids)
    found = [chosen_of((await client.get(task_id)).task) for task_id in named]
    return _tell_chosen(found, is_json=wanted.is_json)


def _tell_chosen(chosen: Sequence[Chosen], *, is_json: bool) -> int:
    if is_json:
        write_json([{**msgspec.structs.asdict(each), "dry_run": True} for each in chosen])
    elif chosen:
        names = ("task_id", "state", "handler", "queue")
        write_table(names, [[getattr(each, name) for name in names] for each in chosen])
    say(f"would cancel {len(chosen)} tasks{_states_text(chosen)}; nothing was changed")
    return 0


def _states_text(chosen: Sequence[Chosen]) -> str:
    counts = Counter(each.state for each in chosen)
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f" ({words})" if words else ""
