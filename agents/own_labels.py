"""What an agent offers without being told: where it runs, and which agent CLIs its host has."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from fleetlog.agents.executors.profiles import load_profiles


def built_in_labels(
    *, host: str, version: str, profiles: str | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """`host`, `os`, `version` where it is known, and `executor.<name>=yes` for each agent CLI that is there.

    Args:
        host: the host's name.
        version: of fleetlog; empty if it is not known.
        profiles: a file with more agent CLIs.
        environ: where they are looked for.

    Raises:
        ConfigError: the file can't be read, or does not fit.
    """
    found = (
        name
        for name, profile in load_profiles(profiles).items()
        if profile.find(environ) is not None
    )
    labels = {"host": host, "os": sys.platform, **{f"executor.{name}": "yes" for name in found}}
    return labels | ({"version": version} if version else {})
