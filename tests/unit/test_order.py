"""Places in order are those that sorting would give, whatever moved since."""

import tracemalloc
from random import Random

import pytest

from millstream_projector.views.order import Order
from millstream_projector.views.places import flags

ROUNDS = 60


def chosen(
    keys: list[int], places: set[int], border: tuple[int, int] | None, *, down: bool
) -> list[int]:
    """Return by sorting what an order must give."""
    found = sorted((key, place) for place, key in enumerate(keys) if place in places)
    if down:
        found.reverse()
    return [p for key, p in found if border is None or ((key, p) < border) == down]


@pytest.mark.parametrize("moved_most", [1, 4, 300])
def test_an_order_follows_places_that_come_and_move(moved_most: int) -> None:
    rng, order, keys = Random(moved_most), Order(), list[int]()
    for _ in range(ROUNDS):
        count = rng.choice((0, 0, 1, 20))
        order.extend(count)
        keys += [-1] * count
        for _ in range(rng.randint(0, moved_most) if keys else 0):
            place, key = rng.randrange(len(keys)), rng.choice((-1, 0, 7, 2**63 - 1))
            order.put(place, key)
            keys[place] = key
        share = rng.choice((0.02, 0.7))
        some = {place for place in range(len(keys)) if rng.random() < share}
        border = rng.choice((None, (rng.choice((-1, 0, 7)), rng.randrange(len(keys) + 1))))
        bits = flags(sum(1 << place for place in some), len(keys))
        for down in (False, True):
            found = list(order.places(bits, border, downwards=down))
            assert found == chosen(keys, some, border, down=down)


@pytest.mark.parametrize("more", [0, 20_000])
def test_what_moves_in_an_order_that_nobody_asks_for_is_not_kept(more: int) -> None:
    order, count = Order(), 20_000
    order.extend(count)
    order.settle()
    tracemalloc.start()
    order.extend(more)
    for place in range(len(order.keys)):
        order.put(place, 7)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20 * count  # a key of each new place takes 8, and what moves about 80
    everything = flags((1 << len(order.keys)) - 1, len(order.keys))
    assert list(order.places(everything, None, downwards=False)) == list(range(len(order.keys)))
