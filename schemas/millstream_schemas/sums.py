"""Parts of sums over many batches."""

from millstream_schemas.envelope import Contract


class LiveSums(Contract):
    """What the batches that had not ended had made and used by then.

    The cost is without tokens whose price is not known; ``unpriced_batches`` used such.
    """

    samples: int
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int | None
    unpriced_batches: int


class Tally(Contract):
    """A name and how often it stands."""

    name: str
    count: int


Facets = dict[str, tuple[Tally, ...]]
"""A filter's name -> its values, the most frequent first, of what all *other* filters leave."""
