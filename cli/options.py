"""The options that say how a task shall run; `submit`, `map` and `run` share them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from fleetlog.bus.core.commands import OnDuplicate
from fleetlog.bus.submit_options import SubmitOptions
from fleetlog.cli.bounds import tree_budget_of
from fleetlog.cli.inputs import labels_of
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.subjects import PRIORITIES, Priority

QueueOption = Annotated[
    str | None,
    typer.Option(metavar="QUEUE", help="The queue to offer it on.", show_default="default"),
]
PriorityOption = Annotated[
    str | None,
    typer.Option(metavar="PRIORITY", help="high, normal or low.", show_default="normal"),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Your own key for this work: the same key again, at any time, is the same task.",
    ),
]
OnDuplicateOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="With --key, when its task is there already: return it, replace it as long as it has not started,"
        " or refuse.",
        show_default="return",
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="For people and SQL; may be repeated."),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="The longest one attempt may run, or none.", show_default="1h"
    ),
]
StartWithinOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="It expires if it has not started so long after queued."),
]
SilenceOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="The longest an attempt may go without any output."),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="From now on; no attempt runs after it."),
]
MaxAttemptsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        help="How many attempts may fail before it has failed.",
        show_default="3",
    ),
]
DelayOption = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Queue it only after so long."),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TASK",
        help="Queue it only when this task has completed, and fail if that ends otherwise; may be repeated.",
    ),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="Start it only while this limit has room, see `fleetlog limit`; may be repeated.",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="What it uses, and what it leads to, counts on this budget, see `fleetlog budget`; may be"
        " repeated.",
    ),
]
TreeBudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNTS",
        help="A budget of its own for it and all that it leads to: usd=5, tokens=2M or wall=1h, several with"
        " commas, and then=warn, hold or stop.",
    ),
]
FairKeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Among tasks with such keys in its queue, each key has its turn, however many tasks one has.",
    ),
]
RepoOption = Annotated[
    str | None,
    typer.Option(
        metavar="REPO",
        help="The repository to work on, one that its agent was given with --worktree: its path there, or the"
        " name of its folder.",
        show_default="the agent's only one",
    ),
]
WorktreeOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="REPO",
        help="A git repository: each attempt of a command gets a worktree of it; may be repeated.",
    ),
]
UncheckedOption = Annotated[
    bool,
    typer.Option(
        "--unchecked",
        help="Do not compare handler and arguments with what agents take, nor ask for limits and budgets.",
    ),
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait", help="Wait for the outcome; exit code 1 unless it completed."),
]
WaitTimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Wait no longer; exit code 4 then, and the task goes on."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON object or array on stdout, nothing else there."),
]


def submit_options(  # noqa: C901, PLR0912, PLR0913 - one argument per option
    *,
    queue: str | None,
    priority: str | None,
    label: Sequence[str] | None,
    timeout: str | None,
    start_within: str | None,
    silence: str | None,
    expires: str | None,
    max_attempts: int | None,
    delay: str | None,
    after: Sequence[str] | None = None,
    limit: Sequence[str] | None = None,
    budget: Sequence[str] | None = None,
    tree_budget: str | None = None,
    fair_key: str | None = None,
) -> SubmitOptions:
    """What was said, as the client takes it; what was not said keeps the task's defaults.

    Raises:
        InvalidInput: a priority or label is not one.
    """
    options = SubmitOptions()
    if queue is not None:
        options["queue"] = queue
    if priority is not None:
        options["priority"] = _priority_of(priority)
    if label:
        options["labels"] = labels_of(label)
    if timeout is not None:
        options["timeout"] = None if timeout == "none" else timeout
    if start_within is not None:
        options["start_within"] = start_within
    if silence is not None:
        options["silence"] = silence
    if expires is not None:
        options["expires"] = expires
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    if delay is not None:
        options["delay"] = delay
    if after:
        options["after"] = tuple(dict.fromkeys(after))
    if limit:
        options["limits"] = tuple(dict.fromkeys(limit))
    if budget:
        options["budgets"] = tuple(dict.fromkeys(budget))
    if tree_budget is not None:
        options["budget"] = tree_budget_of(tree_budget)
    if fair_key is not None:
        options["fair_key"] = fair_key
    return options


def on_duplicate_of(text: str | None, key: str | None) -> OnDuplicate:
    """What to do when the key's task is there.

    Raises:
        InvalidInput: it is not a word for that, or there is no key.
    """
    if text is None:
        return "return"
    if key is None:
        raise InvalidInput("--on-duplicate goes with --key: without one no task is there already")
    for word in get_args(OnDuplicate):
        if word == text:
            found: OnDuplicate = word
            return found
    raise InvalidInput(f"--on-duplicate {text!r} is not one of {', '.join(get_args(OnDuplicate))}")


def absolute_paths(paths: Sequence[Path] | None) -> tuple[Path, ...]:
    """Paths as they are seen from here."""
    return tuple(path.expanduser().absolute() for path in paths or ())


def seconds_to_wait(wait_timeout: str | None, *, is_waiting: bool) -> float | None:
    """What `--wait-timeout` says, in seconds.

    Raises:
        InvalidInput: it is no duration, or nobody waits.
    """
    if wait_timeout is None:
        return None
    if not is_waiting:
        raise InvalidInput("--wait-timeout goes with --wait: give both, or neither")
    return parse_duration(wait_timeout, "wait timeout") / 1000


def _priority_of(text: str) -> Priority:
    for priority in PRIORITIES:
        if priority == text:
            return priority
    raise InvalidInput(f"priority {text!r} is not one of {', '.join(PRIORITIES)}")
