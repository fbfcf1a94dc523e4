"""The options that say how and where a task shall run; `submit`, `map`, `run` and `schedule add` share them."""

from __future__ import annotations

from typing import Annotated, Any, cast, get_args

import typer

from fleetlog.bus.core.commands import OnDuplicate
from fleetlog.bus.submit_options import SubmitOptions
from fleetlog.cli.bounds import tree_budget_of
from fleetlog.cli.grouping import Group
from fleetlog.cli.inputs import labels_of
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.subjects import PRIORITIES, Priority


class Rules(Group, frozen=True, kw_only=True):
    """How every task may run; what was not said keeps the task's defaults."""

    queue: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="The queue to offer it on.", show_default="default"),
    ] = None
    priority: Annotated[
        str | None,
        typer.Option(metavar="PRIORITY", help="high, normal or low.", show_default="normal"),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="For people and SQL; may be repeated."),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="The longest one attempt may run, or none.",
            show_default="1h",
        ),
    ] = None
    start_within: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="It expires if it has not started so long after queued."
        ),
    ] = None
    silence: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The longest an attempt may go without any output."),
    ] = None
    expires: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="From now on; no attempt runs after it."),
    ] = None
    max_attempts: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            metavar="N",
            help="How many attempts may fail before it has failed.",
            show_default="3",
        ),
    ] = None
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Start it only while this limit has room, see `fleetlog limit`; may be repeated.",
        ),
    ] = None
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="What it uses, and what it leads to, counts on this budget, see `fleetlog budget`; may be"
            " repeated.",
        ),
    ] = None
    tree_budget: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNTS",
            help="A budget of its own for it and all that it leads to: usd=5, tokens=2M or wall=1h, several"
            " with commas, and then=warn, hold or stop.",
        ),
    ] = None
    fair_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Among tasks with such keys in its queue, each key has its turn, however many tasks one has.",
        ),
    ] = None
    requires: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only agents with this label (host, os, version, executor.claude=yes, or their --label) run"
            " it; may be repeated.",
        ),
    ] = None
    affinity: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Run it on the host where the last task with this key ran, if an agent is there.",
        ),
    ] = None
    affinity_wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long it waits for that host; then any agent may run it.",
            show_default="30s",
        ),
    ] = None

    def submit_options(self) -> SubmitOptions:
        """What was said, as the client takes it.

        Raises:
            InvalidInput: a priority, label, requirement or budget is none, or an option lacks its companion.
        """
        options = {name: value for name, value in self.said().items() if value is not None}
        if self.timeout == "none":
            options["timeout"] = None
        return cast("SubmitOptions", options)

    def said(self) -> dict[str, Any]:
        """By the client's names; None for what was not said."""
        if self.affinity_wait is not None and self.affinity is None:
            raise InvalidInput("--affinity-wait goes with --affinity: give both, or neither")
        tree_budget = self.tree_budget
        return {
            "queue": self.queue,
            "priority": _priority_of(self.priority) if self.priority is not None else None,
            "labels": labels_of(self.label) if self.label else None,
            "timeout": self.timeout,
            "start_within": self.start_within,
            "silence": self.silence,
            "expires": self.expires,
            "max_attempts": self.max_attempts,
            "limits": _each_once(self.limit),
            "budgets": _each_once(self.budget),
            "budget": tree_budget_of(tree_budget) if tree_budget is not None else None,
            "fair_key": self.fair_key,
            "requires": labels_of(self.requires, "requirement") if self.requires else None,
            "affinity": self.affinity,
            "affinity_wait": self.affinity_wait,
        }


class TaskRules(Rules, frozen=True, kw_only=True):
    """How tasks may run that are submitted now."""

    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Queue it only after so long.")
    ] = None

    def said(self) -> dict[str, Any]:
        """See `Rules`."""
        return {**super().said(), "delay": self.delay}


class OneTaskRules(TaskRules, frozen=True, kw_only=True):
    """How a single task may run, and which one it is."""

    after: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Queue it only when this task has completed, and fail if that ends otherwise; may be"
            " repeated.",
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Your own key for this work: the same key again, at any time, is the same task.",
        ),
    ] = None
    on_duplicate: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="With --key, when its task is there already: return it, replace it as long as it has not"
            " started, or refuse.",
            show_default="return",
        ),
    ] = None

    def said(self) -> dict[str, Any]:
        """See `Rules`; the key is the spec's."""
        return {**super().said(), "after": _each_once(self.after)}

    def what_on_duplicate(self) -> OnDuplicate:
        """What to do when the key's task is there.

        Raises:
            InvalidInput: it is not a word for that, or there is no key.
        """
        text = self.on_duplicate
        if text is None:
            return "return"
        if self.key is None:
            raise InvalidInput(
                "--on-duplicate goes with --key: without one no task is there already"
            )
        words: tuple[OnDuplicate, ...] = get_args(OnDuplicate)
        for word in words:
            if word == text:
                return word
        raise InvalidInput(f"--on-duplicate {text!r} is not one of {', '.join(words)}")


def _each_once(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(dict.fromkeys(values)) if values else None


def _priority_of(text: str) -> Priority:
    for priority in PRIORITIES:
        if priority == text:
            return priority
    raise InvalidInput(f"priority {text!r} is not one of {', '.join(PRIORITIES)}")
