"""Sums over the slices of a batch, moved on slice by slice."""

from typing import NamedTuple

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
    unconfirmed_calls: int = 0

    def moved(self, old: SliceState, new: SliceState) -> "Totals":
        """Return the sums after one slice went from ``old`` to ``new``."""
        return Totals(
            self.generated + _grown(old.generated, new.generated),
            self.failed + _grown(old.failed, new.failed),
            self.abandoned + _grown(old.abandoned, new.abandoned),
            self.rejected + new.rejected - old.rejected,
            self.attempts_failed + new.attempts_failed - old.attempts_failed,
            self.tokens_in + new.tokens_in - old.tokens_in,
            self.tokens_out + new.tokens_out - old.tokens_out,
            _moved(self.cost_nano_usd, old.cost_nano_usd, new.cost_nano_usd),
            _moved(self.wasted_nano_usd, old.wasted_nano_usd, new.wasted_nano_usd),
            self.unconfirmed_calls + new.unconfirmed - old.unconfirmed,
        )


def _grown(old: str, new: str) -> int:
    """Return how many more slots ``new`` marks than ``old``."""
    return 0 if new == old else bits(new).bit_count() - bits(old).bit_count()


def _moved(total: int | None, old: int | None, new: int | None) -> int | None:
    if new is None:
        return total
    return (total or 0) + new - (old or 0)
