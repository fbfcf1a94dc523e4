"""`fleetlog coordinator`: does what time brings, and what lost agents leave."""

from __future__ import annotations

import typer

from fleetlog.bus.coordinator import Coordinator
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.health import HealthOption
from fleetlog.cli.role import Role, run_role


def coordinator(ctx: typer.Context, *, health: HealthOption = None) -> None:
    """Do what time brings, and what lost agents leave.

    Offers delayed and retried tasks when their time has come, and lets those expire that did not start in time.
    Notices agents that were silent for three beats, and offers their tasks again. Start it on two hosts: one
    is active, the other takes over within seconds. Without any, tasks that wait for nothing run all the same.
    `fleetlog up` starts one.

    Example: fleetlog --url nats://hub:4222 coordinator
    """
    role = Role(name="coordinator", make=Coordinator, health=health)
    raise typer.Exit(run(run_role(settings_of(ctx), role)))
