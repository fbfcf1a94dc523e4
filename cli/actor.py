"""Who acts, where a person does."""

from __future__ import annotations

import getpass


def actor() -> str | None:
    """The name of whoever runs this command; None where the machine does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
