"""Claiming: what an agent does with an offer that was delivered to it."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from fleetlog.agents.credential_gate import CredentialGate
from fleetlog.bus.core import Claim, Lease, Refusal, Task, evolve
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.offers import Offer
from fleetlog.bus.rules import Decided, after, execute, load_task
from fleetlog.schemas.envelope import Recorded, UnknownEvent, decode, instant_of
from fleetlog.schemas.events import TaskClaimed, TaskQueued, type_of

logger = logging.getLogger("fleetlog.agents")

HELD_NAK_S: Final = 5.0
UNREADABLE_NAK_S: Final = 30.0


class Claims:
    """Turns offers into leases, by the log's rules alone.

    Args:
        fleet: whose tasks.
        agent_id: who claims.
        host: where.
        gate: which tasks have to wait for their credential.
    """

    def __init__(self, fleet: Fleet, agent_id: str, host: str, gate: CredentialGate) -> None:
        self._fleet = fleet
        self.gate = gate
        self._agent_id = agent_id
        self._host = host

    async def claim(self, offer: Offer, worker_id: str) -> Task | None:
        """The claimed task, its lease ours; None when there is nothing to run, and then the offer is answered.

        A delivery is a hint. The first one is tried at its own sequence; a redelivery, or a conflict, is
        decided on the task as the log tells it. Redelivery is no evidence of death: after a restart of the
        server everything unacknowledged comes again at once though every holder lives.
        """
        task = await self._state_for(offer)
        if task is None:
            self._fleet.offers.nak(offer.ack_subject, UNREADABLE_NAK_S)
            return None
        if self.gate.is_any_paused and self._has_to_wait(offer, task):
            return None
        command = Claim(
            id=self._fleet.system.new_id(),
            offer=offer.seq,
            agent_id=self._agent_id,
            worker_id=worker_id,
            host=self._host,
            ack=offer.ack_subject,
        )
        decided = await execute(self._fleet.log, command, task)
        if isinstance(decided, Refusal) and decided.code == "offer_held":
            lease = decided.task.lease
            if lease is not None and await self._is_holder_dead(lease):
                command = msgspec.structs.replace(command, over=lease.fence)
                decided = await execute(self._fleet.log, command, decided.task)
        return await self._conclude(offer, decided)

    def _has_to_wait(self, offer: Offer, task: Task) -> bool:
        """Whether the task's credential is paused; then the offer has gone back."""
        if task.spec is None or task.status != "queued" or task.offer != offer.seq:
            return False
        wait_s = None if task.is_cancel_requested else self.gate.wait_s(task.spec)
        if wait_s is None:
            return False
        self._fleet.offers.nak(offer.ack_subject, wait_s)
        return True

    async def _state_for(self, offer: Offer) -> Task | None:
        if offer.deliveries > 1:
            return await load_task(self._fleet.log, offer.task_id)
        event = decode(offer.data)
        if not isinstance(event, TaskQueued):
            why = event.why if isinstance(event, UnknownEvent) else f"it is {type_of(event)}"
            logger.error(
                "task %s: its offer %d cannot be read by this version (%s): upgrade this agent",
                *(offer.task_id, offer.seq, why),
            )
            return None
        record = Recorded(offer.seq, instant_of(offer.stored_at_ns), None, event)
        return evolve(Task(id=offer.task_id), record)

    async def _conclude(self, offer: Offer, decided: Decided | Refusal) -> Task | None:
        if isinstance(decided, Refusal):
            if decided.code == "offer_held":
                self._fleet.offers.nak(offer.ack_subject, HELD_NAK_S)
            else:
                self._fleet.offers.ack(offer.ack_subject)
            return None
        if isinstance(decided.event, TaskClaimed):
            if decided.task.lease is not None:
                # Should the holder live after all, it ends what it runs the sooner.
                self._fleet.hints.publish(
                    offer.task_id, decided.seq, to=decided.task.lease.agent_id
                )
            return after(decided, self._fleet.log)
        # It had run out of time, or went down with its agents once too often: settled instead of claimed.
        self._fleet.offers.ack(offer.ack_subject)
        self._fleet.hints.publish(offer.task_id, decided.seq)
        return None

    async def _is_holder_dead(self, lease: Lease) -> bool:
        """Evidence: we have listened for a whole ack wait, and in that time the holder said nothing."""
        if lease.agent_id == self._agent_id:
            return True  # an attempt that runs here adopts its offer before it comes to a claim
        ack_wait_s = self._fleet.offers.ack_wait_s
        if self._fleet.link.connected_for_s < ack_wait_s:
            return False
        return await self._fleet.beats.silence_s(lease.agent_id) > ack_wait_s
