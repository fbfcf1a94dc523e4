"""Loading an app: the `Agent` that `--app module:attribute` names."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Final

from fleetlog.agents.face import Agent
from fleetlog.agents.frames import clip
from fleetlog.bus.errors import ConfigError

_TRACEBACK_ENTRIES: Final = 6


def load_app(name: str) -> Agent:
    """Imports the app; modules are looked for in the working folder first.

    Raises:
        ConfigError: it cannot be imported, or is no `Agent`, or a handler's parameters cannot be read. The
            text tells its author where.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"--app {name!r} is not module:attribute, such as myapp:agent")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        # The boundary to user code: whatever it raises is its author's to read.
        lines = traceback.format_exception(error, limit=-_TRACEBACK_ENTRIES)
        summary = "".join(traceback.format_exception_only(error)).strip()
        text = f"the app {name} cannot be imported: {summary}\n\n{''.join(lines)}"
        raise ConfigError(clip(text)) from error
    agent = getattr(module, attribute, None)
    if not isinstance(agent, Agent):
        found = "nothing" if agent is None else f"a {type(agent).__name__}"
        raise ConfigError(f"the app {name} is no Agent: {attribute} in {module_name} is {found}")
    agent.schemas()
    return agent
