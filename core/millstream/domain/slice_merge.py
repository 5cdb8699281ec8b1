"""What a fold makes of a slice event that follows another one.

Outcomes only ever grow: a slot that has one keeps it. Money never shrinks.
"""

from collections.abc import Mapping
from typing import Any

from millstream.domain.slice import full_mask, resolved
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.slices import SliceState, bitmap, bits

_NEVER_SHRINKING = (
    "epoch",
    "rejected",
    "attempts_failed",
    "tokens_in",
    "tokens_out",
    "cost_nano_usd",
    "wasted_nano_usd",
    "unpriced",
    "unconfirmed",
)


def merge(
    old: SliceState, new: SliceState, size: int, *, may_abandon: bool
) -> tuple[SliceState, int]:
    """Return (``old`` moved on to ``new``, number of broken rules).

    A writer behind the fence always carries everything before it, so for a sound log the result
    is ``new``. For any other log the first outcome of a slot stands and money never shrinks.
    """
    if _follows(old, new, size, may_abandon=may_abandon):
        return new, 0
    return _salvaged(old, new, size, may_abandon=may_abandon)


def _follows(old: SliceState, new: SliceState, size: int, *, may_abandon: bool) -> bool:
    """Tell whether ``new`` breaks no rule: each slot has one outcome at most, nothing shrinks."""
    generated, failed, abandoned = bits(new.generated), bits(new.failed), bits(new.abandoned)
    return (
        # Masks that share no bit add up to their union.
        generated + failed + abandoned == generated | failed | abandoned <= full_mask(size)
        and not bits(old.generated) & ~generated
        and not bits(old.failed) & ~failed
        and not bits(old.abandoned) & ~abandoned
        and (may_abandon or (new.abandoned == old.abandoned and new.closed == old.closed))
        and old.closed <= new.closed
        and old.epoch <= new.epoch
        and old.rejected <= new.rejected
        and old.attempts_failed <= new.attempts_failed
        and old.unconfirmed <= new.unconfirmed
        and old.tokens_in <= new.tokens_in
        and old.tokens_out <= new.tokens_out
        and _highest(old.cost_nano_usd, new.cost_nano_usd) == new.cost_nano_usd
        and _highest(old.wasted_nano_usd, new.wasted_nano_usd) == new.wasted_nano_usd
        and _highest(old.unpriced, new.unpriced) == new.unpriced
        and (old.errors == new.errors or highest_each(old.errors, new.errors) == new.errors)
    )


def _salvaged(
    old: SliceState, new: SliceState, size: int, *, may_abandon: bool
) -> tuple[SliceState, int]:
    """Return (what of ``new`` may stand after ``old``, number of fields that had to change)."""
    taken = resolved(old)
    kept: dict[str, Any] = {}
    for name in ("generated", "failed", "abandoned"):
        before = bits(getattr(old, name))
        fresh = bits(getattr(new, name)) & full_mask(size) & ~taken
        if name == "abandoned" and not may_abandon:
            fresh = 0
        taken |= fresh
        kept[name] = bitmap(before | fresh)
    for name in _NEVER_SHRINKING:
        kept[name] = _highest(getattr(old, name), getattr(new, name))
    kept["errors"] = highest_each(old.errors, new.errors)
    kept["closed"] = old.closed or (new.closed and may_abandon)
    broken = sum(getattr(new, name) != value for name, value in kept.items())
    return new.model_copy(update=kept), broken


def _highest(old: int | None, new: int | None) -> int | None:
    if old is None or new is None:
        return new if old is None else old
    return max(old, new)


def highest_each(
    old: Mapping[ErrorCategory, int], new: Mapping[ErrorCategory, int]
) -> dict[ErrorCategory, int]:
    """Return the higher count of each category; every category of either is kept."""
    merged = dict(old)
    for category, count in new.items():
        merged[category] = max(merged.get(category, 0), count)
    return merged
