"""The rules, each in a sentence."""

from __future__ import annotations

from typing import Final

RULES: Final[dict[str, str]] = {
    "log.sequence": "Each message's sequence is one above that of the message before, from 1 on.",
    "log.readable": "Each message is an event of the type that its subject says, of one fleet, with an"
    " id; limits and budgets stand under their keys.",
    "log.event_id": "No event id is stored twice.",
    "task.transition": "A task has no event that its state does not allow: what is held, queued or"
    " waiting is queued, held, cancelled or expired, what is queued or claimed is claimed,"
    " what is claimed ends; unclaimed only what waits for other tasks fails.",
    "task.one_ending": "A task has one terminal event.",
    "task.after_ending": "Nothing follows a task's terminal event.",
    "task.spec": "A task's spec stays as it is; only one that has not run and is tied to no other is"
    " replaced.",
    "task.lane": "Events of a task stand on the queue and priority of its spec, with the derived queue"
    " for what it requires and for the host that it is offered to.",
    "task.key": "A task with a key has the id that is made of the key, so that a key has one task.",
    "task.revival": "What is revived has failed, or is a revival that ended in any way but"
    " completed; the new one has the same spec without key and delay.",
    "claim.live": "No task is claimed while another claim of it is live, unless over that very claim.",
    "claim.offer": "A claim names the offer that stands: the last `queued`, or that of the claim it"
    " replaces.",
    "claim.grows": "The fences of a task's claims grow.",
    "claim.fence": "What ends an attempt carries the fence of the live claim; without one it carries"
    " none.",
    "claim.host": "An offer to one host is claimed there.",
    "claim.agent": "An agent that the log knows claims on its own host, from queues that it serves,"
    " what its labels allow.",
    "claim.refused": "A result is refused only for a claim that its agent had and that is not live any"
    " more.",
    "count.offer": "An offer tells attempts, failures, losses and the time of submission as the history"
    " has them.",
    "count.attempts": "A claim counts one attempt more than there were, and each end as many as there"
    " were.",
    "bound.attempts": "No attempt follows as many failures as are allowed, nor a question more than 100"
    " answers.",
    "bound.losses": "No attempt follows the third loss of a task's agent.",
    "cancel.heeded": "After `cancel_requested` a task completes or is cancelled, and nothing else.",
    "cancel.tree": "The barrier of a task that was asked to end before it fanned out is never released.",
    "wait.retry": "After `retried` or `returned` a task is not offered before its delay has passed by"
    " the log's time, less the tolerated skew.",
    "wait.delay": "A held task is not offered before its delay has passed by the log's time, less the"
    " skew.",
    "wait.affinity": "An offer to one host becomes one to all only after `affinity_ms`, and never one"
    " to another.",
    "wait.again": "What is on offer is offered again, to the same agents, only after the time that tells"
    " a stuck offer, unless it may just have been replaced: so a continuation is queued once.",
    "wait.expiry": "A task does not expire before the time that it names has passed, less the skew.",
    "wait.no_late_start": "No attempt is claimed, by its writer's clock, after the task's time has"
    " passed.",
    "gate.held": "A task with a delay, an affinity, other tasks to wait for, or that has to be let in,"
    " is held first; one without is not held. What has to be let in is held again by an"
    " answer.",
    "gate.after": "A task with `after` is offered when all of these have completed, and given up only"
    " when one of them can't; a continuation is given up only when its barrier was"
    " abandoned.",
    "question.answered": "A task that asks goes on with one answer more, one of its choices, and not"
    " without it; other tasks get no answers.",
    "limit.places": "When a task is let in, no more are offered or claimed under a limit than it allows"
    " then; a family's setting counts for keys without their own, after the tolerated lag.",
    "limit.rate": "No more tasks are let in under a limit than its bucket holds by the log's time.",
    "limit.batch": "Each offer under limits stands in a row with the events of all its limits that let"
    " it in, each naming 1 to 500 tasks.",
    "limit.leaked": "At a quiet end nobody holds a place who isn't allowed to be open.",
    "budget.hold": "Nothing is newly offered under a budget that stops or holds once it has been used"
    " up for longer than the tolerated lag; what was on offer or ran goes on.",
    "budget.told": "That a budget is used up is said once for each setting, truly, and by a quiet end"
    " for sure.",
    "budget.inherited": "A task with a parent is under all budgets of the parent.",
    "budget.end": "At a quiet end nothing is on offer under a used-up budget that holds, nothing is"
    " open under one that stops.",
    "credential.paused": "What has to be let in is not offered once its credential has been paused"
    " for longer than the tolerated lag, and at a quiet end is not on offer.",
    "barrier.plan": "A fan-out names as many members as it counts, by the ids derived from it or their"
    " keys, with a policy that can be met; it is opened once.",
    "barrier.one_ending": "A barrier that was opened is released or abandoned once.",
    "barrier.policy": "A barrier is released when its policy is met: all settled, all, one or a quorum"
    " completed; with unsettled members only after the deadline.",
    "barrier.outcomes": "A release tells its opening, and for each member in order the event that"
    " settled it, through all continuations, as the log has it; a late one leaves out none of"
    " its own members.",
    "barrier.abandoned": "A barrier is abandoned when its policy can't be met any more, when its parent has"
    " ended, or when it was cancelled, and counts no more of its members than have settled.",
    "barrier.members": "Each member is made as the fan-out names it and nobody else is a member; at a"
    " quiet end all are there, unless the barrier's end cancels them.",
    "barrier.continuation": "The continuation is the one that the fan-out names, or its revival; it"
    " is made, and offered only after the release.",
    "barrier.stragglers": "At a quiet end nothing goes on that a barrier made and that ends with it.",
    "schedule.life": "A schedule is set, paused, resumed and removed only where it was otherwise"
    " before.",
    "schedule.task": "A task of a schedule has an id made of name and instant, so that an instant has"
    " one, and is what the rule that it names as its cause makes.",
    "schedule.instant": "A task is made for an instant of its rule, after the rule was set or"
    " resumed, not before the instant, and for none later than the tolerated lag after the"
    " rule's end.",
    "schedule.overlap": "With `skip` no task is made for an instant at which the rule's task before"
    " had not settled.",
    "schedule.owed": "At a quiet end each instant of the last minute has its task, unless it is"
    " skipped.",
    "agent.life": "An agent starts once and first, stops at most once, and is lost at most once, not"
    " after it stopped.",
    "queue.paused": "Nothing is claimed from a queue that has been paused for longer than the tolerated lag,"
    " nor from those derived from it.",
    "queue.derived": "A queue for requirements has the name that is made of these.",
    "end.settled": "At a quiet end each task has settled, unless it is allowed to be open or waits for"
    " such a one.",
    "end.barrier": "At a quiet end each barrier has ended, unless its policy depends on members that are"
    " open, its deadline has not passed, and nobody has ended its task, its parent or its continuation.",
}
