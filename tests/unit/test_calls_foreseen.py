"""How many calls of a slice are taken to start before its next event, at a guess from the lines."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from millstream_generator.in_flight import STEP, foreseen
from millstream_generator.turns import Line, Waiter


def gate(**known: Any) -> SimpleNamespace:
    """Return what is looked at of a gate: by default it has a limit and nobody waits there."""
    condition = SimpleNamespace(is_free=False, is_scarce=known.pop("is_scarce", True))
    trouble = known.pop("trouble", None)
    line = Line()
    for index in known.pop("line", ()):
        line.join(Waiter(0, "b", index))
    return SimpleNamespace(condition=condition, trouble=lambda: trouble, line=line, **known)


async def foreseen_of(
    *gates: Callable[[], SimpleNamespace], ended: int = 0, waiting: int = 0
) -> int | None:
    batch = SimpleNamespace(gates=[make() for make in gates], batch_id="b")
    return foreseen(cast("Any", batch), 1, ended, waiting)


BLOCKED = partial(gate, trouble="blocked")
FREE = partial(gate, is_scarce=False)


@pytest.mark.parametrize(
    ("gates", "ended", "waiting", "calls"),
    [
        ((FREE,), 1, 0, None),
        ((BLOCKED,), 1, 0, 0),
        ((BLOCKED,), 0, 1, 1),  # the probe
        ((BLOCKED, FREE), 1, 0, None),  # all calls go there at once
        ((BLOCKED, partial(gate, line=[1])), 1, 0, 2),
        ((gate,), 0, 0, 0),  # a claim
        ((gate,), 2, 0, 2),  # nobody waits: its own calls come next
        ((partial(gate, line=[2, 2, 2, 1, 1, 1]),), 1, 0, 2),  # two of the next five turns
        ((partial(gate, line=[2] * 9),), 1, 0, 0),
        (
            (partial(gate, line=[1] * 20, in_flight=10, near=5),),
            0,
            1,
            16,
        ),  # one that waits asks for more
        ((partial(gate, line=[1] * 9, in_flight=1, near=4),), 0, 1, 1 + 4 + STEP),
    ],
)
def test_calls_are_foreseen_by_the_turns_that_come_next(
    gates: tuple[Callable[[], SimpleNamespace], ...], ended: int, waiting: int, calls: int | None
) -> None:
    assert asyncio.run(foreseen_of(*gates, ended=ended, waiting=waiting)) == calls
