"""What people write for limits and budgets: rates such as 10/1m, amounts of money, tokens and time."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fleetlog.schemas.budgets import AMOUNT_MAX, Action, Budget, check_budget
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput

ACTIONS: Final[tuple[Action, ...]] = ("warn", "hold", "stop")
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(.+)")
_TOKENS: Final = re.compile(r"([0-9]{1,15})([kM]?)")
_UNITS: Final = {"": 1, "k": 1_000, "M": 1_000_000}


def rate_of(text: str) -> tuple[int, int]:
    """How many starts in how many milliseconds, from `10/1m`, `5/s` or `100/30s`.

    Raises:
        InvalidInput: it is not such a rate.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"--rate {text[:40]!r} is not a rate: write 10/1m for ten starts a minute"
        )
    per = found[2] if found[2][0].isdigit() else f"1{found[2]}"
    per_ms = parse_duration(per, "rate")
    if per_ms < 1:
        raise InvalidInput(
            f"--rate {text[:40]!r} leaves no time: write 10/1m for ten starts a minute"
        )
    return int(found[1]), per_ms


def budget_of(
    *, usd: str | None, tokens: str | None, wall: str | None, action: str | None
) -> Budget:
    """The amounts that were said.

    Raises:
        InvalidInput: one is not an amount, or there is none.
    """
    if action is not None and action not in ACTIONS:
        raise InvalidInput(f"{action!r} is not one of {', '.join(ACTIONS)}")
    return check_budget(
        Budget(
            cost_micro_usd=_micro_usd_of(usd) if usd is not None else None,
            tokens=_tokens_of(tokens) if tokens is not None else None,
            wall_ms=parse_duration(wall, "wall") if wall is not None else None,
            action=next((each for each in ACTIONS if each == action), "hold"),
        )
    )


def tree_budget_of(text: str) -> Budget:
    """The amounts in `usd=5,tokens=2M,wall=1h,then=stop`.

    Raises:
        InvalidInput: it is not such a text.
    """
    said: dict[str, Any] = {}
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        if name not in ("usd", "tokens", "wall", "then") or not value or name in said:
            raise InvalidInput(
                f"--tree-budget {text[:80]!r} is not understood at {word[:40]!r}: write usd=5, tokens=2M or"
                " wall=1h, several with commas, and then=warn, hold or stop for what follows"
            )
        said[name] = value
    return budget_of(
        usd=said.get("usd"),
        tokens=said.get("tokens"),
        wall=said.get("wall"),
        action=said.get("then"),
    )


def usd_text(micro_usd: int) -> str:
    """Money as people read it: `0.50 USD`, and `0.000123 USD` where cents would hide it."""
    usd = Decimal(micro_usd) / 1_000_000
    return f"{usd:.2f} USD" if usd == usd.quantize(Decimal("0.01")) else f"{usd.normalize():f} USD"


def _micro_usd_of(text: str) -> int:
    try:
        amount = Decimal(text) * 1_000_000
        micro = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        micro = -1
    if not 0 <= micro <= AMOUNT_MAX:
        raise InvalidInput(f"{text[:40]!r} is not an amount of US dollars: write one such as 2.50")
    return micro


def _tokens_of(text: str) -> int:
    found = _TOKENS.fullmatch(text)
    count = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= count <= AMOUNT_MAX:
        raise InvalidInput(f"{text[:40]!r} is not a number of tokens: write one such as 500k or 2M")
    return count
