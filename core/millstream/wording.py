"""Words that error messages share."""

import difflib
from collections.abc import Iterable

NAMES_SHOWN_MAX = 40


def suggestion(value: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when something like ``value`` is known, else nothing."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(value[:200].casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def one_of(value: object, known: Iterable[str]) -> str:
    """Return ``"use one of: ..."`` with a suggestion when something like ``value`` is known."""
    names = list(known)
    shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "(there is none)"
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f"use one of: {shown}{more}{suggestion(str(value), names)}"
