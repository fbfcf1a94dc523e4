"""`fleetlog map`: a task for each item of a file."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fleetlog.bus.submit_options import with_options
from fleetlog.cli import options
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.grouping import grouped
from fleetlog.cli.items import Shape
from fleetlog.cli.joining import JoiningOptions
from fleetlog.cli.map_fan_out import WantedFanOut, fan_out_and_tell, read_file
from fleetlog.cli.mapping import Wanted, check_file, map_and_tell
from fleetlog.cli.rules import TaskRules
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec, check_spec


@grouped
def map_items(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="Its name.")],
    *,
    items: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="One JSON value on each line, blank lines are skipped; - reads stdin as it comes.",
        ),
    ],
    arg: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Each item becomes this argument; without it, an item is the object of all arguments.",
        ),
    ] = None,
    key_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX", help="Tasks get the keys PREFIX-1, PREFIX-2, … in the items' order."
        ),
    ] = None,
    key_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This argument of each item is its key."),
    ] = None,
    follows: JoiningOptions,
    rules: TaskRules,
    unchecked: options.UncheckedOption = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait for all outcomes; exit code 1 unless all completed, with --then that one.",
        ),
    ] = False,
    wait_timeout: options.WaitTimeoutOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Submit a task for each item of a file.

    A file is checked as a whole before anything is submitted; any number of items is read as fast as the log
    takes them. The tasks' ids are on stdout; with --wait their results, a line for each item in the items'
    order (null where there is none); with --wait --json one object with every outcome. All tasks of one map
    carry a label, map=ID, which stderr names. With --key-prefix or --key-field, the same map again submits
    nothing twice.

    With --then or --policy, all items (at most 50000) are one fan-out: accepted together or not at all, with a
    barrier that waits for them, see `fleetlog barrier show`. --then has the queue, priority and labels of the
    tasks; with --wait its result is printed, and it decides the exit code.

    Examples:
      fleetlog map check_disk --items hosts.jsonl --wait
      fleetlog map check_disk --items hosts.jsonl --then report --deadline 2m --wait
      fleetlog map resize --items sizes.jsonl --key-field name --queue gpu
      ls *.png | jq -R . | fleetlog map resize --items - --arg path
    """
    said = rules.submit_options()
    if "map" in said.get("labels", {}):
        raise InvalidInput(
            "the label `map` is given by `fleetlog map` itself: name yours otherwise"
        )
    template = check_spec(with_options(TaskSpec(handler=handler), said))
    joining = follows.joining(template)
    wanted = Wanted(
        shape=Shape(template=template, arg=arg, key_prefix=key_prefix, key_field=key_field),
        path=items,
        is_waiting=wait,
        wait_timeout_s=options.seconds_to_wait(wait_timeout, is_waiting=wait),
        is_json=is_json,
        is_checked=not unchecked,
    )
    # Before there is a connection: what is wrong with the items does not depend on a server.
    if joining is not None:
        whole = WantedFanOut(joining=joining, **msgspec.structs.asdict(wanted))
        found = read_file(whole)
        raise typer.Exit(run(fan_out_and_tell(settings_of(ctx), whole, found)))
    total = check_file(wanted)
    raise typer.Exit(run(map_and_tell(settings_of(ctx), wanted, total)))
