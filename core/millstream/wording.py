"""Words that error messages share."""

import difflib
from collections.abc import Iterable

NAMES_SHOWN_MAX = 40
NANO = 9
"""Decimals of a dollar that are kept."""


def suggestion(value: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when something like ``value`` is known, else nothing."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(value[:200].casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def dollars(nano_usd: int) -> str:
    """Return an amount (0 or more) exactly, with six decimals or as many more as it has."""
    whole, rest = divmod(nano_usd, 10**NANO)
    decimals = f"{rest:0{NANO}d}"
    return f"{whole}.{decimals[:6]}{decimals[6:].rstrip('0')}"


def one_of(value: object, known: Iterable[str]) -> str:
    """Return ``"use one of: ..."`` with a suggestion when something like ``value`` is known."""
    names = list(known)
    shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "(there is none)"
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f"use one of: {shown}{more}{suggestion(str(value), names)}"
