"""Which variables a child process may see: those of an allow-list, never all of the parent's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

COMMAND_VARIABLES: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LC_*"),
    *("XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""What a command may see of the agent's environment."""

WORKER_VARIABLES: Final = (
    *COMMAND_VARIABLES,
    *("PYTHON*", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_*"),
    "COVERAGE_*",  # so that a test run measures its worker processes too
)
"""What a worker may see: a command's, and what Python needs to load an app."""


def allowed(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables whose names match one of the patterns (`*` stands for any characters)."""
    patterns = tuple(patterns)
    return {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
