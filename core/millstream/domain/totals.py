"""Sums over the slices of a batch, moved on slice by slice."""

from typing import NamedTuple

from millstream_schemas.envelope import EXACT_MOST
from millstream_schemas.slices import SliceState, bits


class Totals(NamedTuple):
    """Sums over the slices of a batch; the fields are those of ``Counts`` but for ``pending``."""

    generated: int = 0
    failed: int = 0
    abandoned: int = 0
    rejected: int = 0
    attempts_failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int | None = None
    wasted_nano_usd: int | None = None
    unpriced_calls: int | None = None
    unconfirmed_calls: int = 0

    def moved(self, old: SliceState, new: SliceState) -> "Totals":
        """Return the sums after one slice went from ``old`` to ``new``."""
        return Totals(
            self.generated + _grown(old.generated, new.generated),
            self.failed + _grown(old.failed, new.failed),
            self.abandoned + _grown(old.abandoned, new.abandoned),
            self.rejected + new.rejected - old.rejected,
            self.attempts_failed + new.attempts_failed - old.attempts_failed,
            _moved(self.tokens_in, old.tokens_in, new.tokens_in),
            _moved(self.tokens_out, old.tokens_out, new.tokens_out),
            _spent(self.cost_nano_usd, old.cost_nano_usd, new.cost_nano_usd),
            _spent(self.wasted_nano_usd, old.wasted_nano_usd, new.wasted_nano_usd),
            _spent(self.unpriced_calls, old.unpriced, new.unpriced),
            self.unconfirmed_calls + new.unconfirmed - old.unconfirmed,
        )


def _grown(old: str, new: str) -> int:
    """Return how many more slots ``new`` marks than ``old``."""
    return 0 if new == old else bits(new).bit_count() - bits(old).bit_count()


def _spent(total: int | None, old: int | None, new: int | None) -> int | None:
    return total if new is None else _moved(total or 0, old or 0, new)


def _moved(total: int, old: int, new: int) -> int:
    return min(EXACT_MOST, total + new - old)
