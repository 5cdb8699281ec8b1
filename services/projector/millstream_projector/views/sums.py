"""Sums over columns that hold what providers told: whatever a log holds, they can be answered."""

from millstream_schemas.envelope import EXACT_MOST


def exact_sum(expression: str, condition: str = "") -> str:
    """Return SQL for a sum that stops at ``EXACT_MOST``; null where there is nothing to add.

    DuckDB adds 64-bit integers up in 128 bits, so that the sum itself can't overflow.
    """
    total = f"sum({expression})" + (f" FILTER ({condition})" if condition else "")
    # Not by least(), which takes null for the greater one.
    return f"(CASE WHEN {total} > {EXACT_MOST} THEN {EXACT_MOST} ELSE {total} END)::BIGINT"


def exact(number: int) -> int:
    """Return ``number``, or ``EXACT_MOST`` where it is more."""
    return min(number, EXACT_MOST)
