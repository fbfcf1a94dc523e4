"""Where a server is, as a word on a process's command line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fleetlog.bus.embedded.runtime import Target


def text_of(target: Target) -> str:
    return msgspec.json.encode(target, enc_hook=str).decode()


def target_of(text: str) -> Target:
    return msgspec.json.decode(text, type=Target, dec_hook=lambda _kind, path: Path(path))
