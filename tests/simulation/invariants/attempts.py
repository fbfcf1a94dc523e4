"""Claims and what ends them: fences, counts and bounds."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from simulation.invariants.messages import Entry, Report, Tolerance, instant_us
from simulation.invariants.story import NO_ANSWERS, Story

_LOSSES_MAX: Final = 3
_ANSWERS_MAX: Final = 100
_ATTEMPTS: Final = 3


class Claim(NamedTuple):
    """What a fence stands for."""

    task_id: str
    agent_id: str
    attempt: int


class Attempts:
    """Takes claims and all that ends something.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self.claims: dict[int, Claim] = {}
        """Every one, by its fence."""
        self._report = report
        self._skew_us = tolerance.skew_ms * 1000

    def take_claimed(self, entry: Entry, story: Story) -> bool:
        """A claim: of the offer that stands, or over a lease whose holder is gone."""
        event, seq = entry.event, entry.seq
        offer, over = event.get("offer"), event.get("over")
        if story.status == "claimed":
            if over != story.fence:
                text = (
                    f"task {story.id} is claimed at {seq} over {over} while its claim"
                    f" {story.fence} is live"
                )
                self._report("claim.live", seq, text)
                return False
            stands = story.lease_offer
        else:
            stands = story.offer
        if offer != stands or (over is not None and story.status != "claimed"):
            text = f"task {story.id} is claimed at {seq} by offer {offer}, but {stands} stands"
            self._report("claim.offer", seq, text)
            return False
        self._check_claim(entry, story)
        if over is not None:
            self._take_loss(entry, story)
        story.status, story.fence, story.lease_offer = "claimed", seq, stands
        story.last_fence = seq
        story.attempts += 1
        story.agent_id = event.get("agent_id", "")
        story.claimed_at_us = story.since_us = entry.at_us
        self.claims[seq] = Claim(story.id, story.agent_id, story.attempts)
        return True

    def _check_claim(self, entry: Entry, story: Story) -> None:
        event, seq = entry.event, entry.seq
        if event.get("attempt") != story.attempts + 1:
            text = (
                f"the claim {seq} of task {story.id} says attempt {event.get('attempt')}, after"
                f" {story.attempts} claims"
            )
            self._report("count.attempts", seq, text)
        if seq <= story.last_fence:
            text = f"the fence {seq} of task {story.id} is not above {story.last_fence}"
            self._report("claim.grows", seq, text)
        if story.affinity_host is not None and event.get("host") != story.affinity_host:
            text = (
                f"task {story.id}, offered to host {story.affinity_host} alone, is claimed at {seq} on"
                f" {event.get('host')}"
            )
            self._report("claim.host", seq, text)
        limit = _passed(story, instant_us(event["occurred_at"]) - self._skew_us)
        if limit is not None:
            text = f"task {story.id} is claimed at {seq} though its {limit} has passed"
            self._report("wait.no_late_start", seq, text)

    def take_cancel_requested(self, entry: Entry, story: Story) -> bool:
        """Someone wants it to end."""
        story.is_cancel_asked = True
        return True

    def take_retried(self, entry: Entry, story: Story) -> bool:
        """A failed attempt after which another one follows."""
        if not self._ends_claim(entry, story):
            return False
        story.failures += 1
        bound = story.spec.get("max_attempts", _ATTEMPTS)
        if story.failures >= bound:
            text = (
                f"task {story.id} is to be tried again at {entry.seq} after {story.failures} failures"
                f" of {bound}"
            )
            self._report("bound.attempts", entry.seq, text)
        self._wait(entry, story)
        return True

    def take_returned(self, entry: Entry, story: Story) -> bool:
        """An attempt that does not count."""
        if not self._ends_claim(entry, story):
            return False
        event = entry.event
        if event.get("error_class") == "lost":
            self._take_loss(entry, story)
        self._wait(entry, story)
        if event.get("error_class") == "needs_input":
            story.question = event.get("question") or {"text": event.get("error")}
            if len(story.answers) >= _ANSWERS_MAX:
                text = f"task {story.id} asks at {entry.seq} after {len(story.answers)} answers"
                self._report("bound.attempts", entry.seq, text)
        return True

    def take_end(self, entry: Entry, story: Story) -> bool:
        """An outcome: of the live claim, or of a task that is not claimed."""
        if not self._ends_claim(entry, story):
            return False
        event, verb = entry.event, entry.verb
        is_attempt = event.get("fence") is not None
        if verb == "failed" and not is_attempt and event.get("error_class") != "dependency":
            text = f"task {story.id} fails at {entry.seq} as {event.get('error_class')}, unclaimed"
            self._report("task.transition", entry.seq, text)
        _settle(entry, story)
        fan_out = event.get("fan_out")
        if fan_out is not None and verb == "completed":
            then = fan_out.get("then")
            story.follower = then["task_id"] if then else f"barrier {story.id}"
        return True

    def take_expired(self, entry: Entry, story: Story) -> bool:
        """The end of a task that did not start in time."""
        if not self._ends_claim(entry, story):
            return False
        limit = entry.event.get("limit")
        if limit not in _limits_passed(story, entry.at_us + self._skew_us):
            text = f"task {story.id} expires at {entry.seq} though its {limit} has not passed"
            self._report("wait.expiry", entry.seq, text)
        _settle(entry, story)
        return True

    def _ends_claim(self, entry: Entry, story: Story) -> bool:
        event, seq = entry.event, entry.seq
        fence = event.get("fence")
        if fence != (story.fence or None):
            live = f"the live claim is {story.fence}" if story.fence else "nothing is claimed"
            text = f"{entry.verb} at {seq} of task {story.id} carries the fence {fence}; {live}"
            self._report("claim.fence", seq, text)
            return False
        if event.get("attempts") != story.attempts:
            text = (
                f"{entry.verb} at {seq} of task {story.id} says {event.get('attempts')} attempts, its"
                f" history {story.attempts}"
            )
            self._report("count.attempts", seq, text)
        return True

    def _take_loss(self, entry: Entry, story: Story) -> None:
        story.losses += 1
        if story.losses >= _LOSSES_MAX:
            text = f"task {story.id} goes on at {entry.seq} after {story.losses} losses"
            self._report("bound.losses", entry.seq, text)

    def _wait(self, entry: Entry, story: Story) -> None:
        delay_ms = entry.event.get("delay_ms", 0)
        story.status, story.fence, story.since_us = "waiting", 0, entry.at_us
        story.due_at_us = entry.at_us + delay_ms * 1000
        if delay_ms < 0:
            text = f"task {story.id} is to wait {delay_ms} ms from {entry.seq} on"
            self._report("wait.retry", entry.seq, text)


def _settle(entry: Entry, story: Story) -> None:
    story.status, story.fence = entry.verb, 0
    story.end_seq, story.end_at_us = entry.seq, entry.at_us
    story.question, story.answers = None, NO_ANSWERS


def _passed(story: Story, at_us: int) -> str | None:
    spec: dict[str, Any] = story.spec
    if "expires_ms" not in spec and "start_within_ms" not in spec:
        return None
    return next(iter(_limits_passed(story, at_us)), None)


def _limits_passed(story: Story, at_us: int) -> list[str]:
    found = []
    expires_ms = story.spec.get("expires_ms")
    start_within_ms = story.spec.get("start_within_ms")
    if expires_ms is not None and at_us >= story.first_at_us + expires_ms * 1000:
        found.append("expires")
    is_offered = story.status == "queued"
    if is_offered and start_within_ms and at_us >= story.since_us + start_within_ms * 1000:
        found.append("start_within")
    return found
