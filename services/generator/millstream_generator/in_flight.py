"""How many calls of one lease may be in flight, as the log knows it: none starts before.

Whoever finds a slice whose holder died counts every call that may have started as paid. Where all
calls of a route start at once that is one for each open slot. Where they wait in line, most slots
have none: there the slice's events tell how many may be in flight, and a call that would be one
more waits until an event that counts it is stored. Each event of the slice tells it anew, so that
one is written for this alone only when the line's turns come to the slice from others, and by who
stands in line there a few turns before, so that few calls wait for it.
"""

import math
from collections.abc import Callable
from typing import Self

from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch

STEP = 4
"""So many turns beyond those that ended are foreseen: few calls wait for an event of their own."""

Foresee = Callable[[int, int], int | None]
"""(calls that ended, calls that wait to start) -> how many may start next; None: any number."""


class InFlight:
    """Counts the calls of a lease."""

    def __init__(self, foresee: Foresee = lambda _ended, _waiting: None) -> None:
        self._foresee = foresee
        self._begun = 0
        # How many more may begin by the event stored last, and by the one under way: whichever
        # of them a successor finds, it must count them all.
        self._room = 0.0
        self._room_next = 0.0
        self.waiting = 0
        """Calls that wait until an event has counted them."""
        self.most = 0
        """How many calls the lease makes at once."""

    @property
    def has_room(self) -> bool:
        """Whether one call more may begin at once."""
        return self._room >= 1 and self._room_next >= 1

    def begin(self) -> bool:
        """Let one call more begin; False where the event stored last does not count it yet."""
        if not self.has_room:
            return False
        self._room -= 1
        self._room_next -= 1
        self._begun += 1
        return True

    def end(self) -> None:
        """Let a call end: an event tells of it, the next one will, or it was never made."""
        self._begun -= 1

    def lose(self, calls: int) -> None:
        """Note calls that end here without an event: one that follows is counted with them.

        Where calls are not counted, as many are taken to be in flight as the lease makes at once.
        """
        if calls and math.isinf(max(self._room, self._room_next)):
            self._room = self._room_next = 0.0

    @property
    def is_enough(self) -> bool:
        """Whether those that wait may begin without another event."""
        return min(self._room, self._room_next) >= self.waiting

    def reset(self) -> None:
        """Let none begin before the next event: nothing of this lease is stored yet."""
        self._room = self._room_next = 0.0

    def announce(self, ended: int) -> int | None:
        """Return what the state before the next events must say, which tell of ``ended`` calls.

        Each of them takes one from that number, as one that is told of is in flight no more.
        """
        ended = min(ended, self._begun)
        foreseen = self._foresee(ended, self.waiting)
        if foreseen is None:
            self._room_next = math.inf
            return None
        next_ones = max(0, min(foreseen, self.most - self._begun + ended))
        self._room_next = next_ones
        return self._begun + next_ones

    def stored(self) -> None:
        """Note that the event under way is stored."""
        self._room = self._room_next


class CountedCall:
    """A context around one call, which has begun once ``begin`` is true."""

    __slots__ = ("_has_begun", "_in_flight")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._has_begun = False

    def begin(self) -> bool:
        """Begin; False where the event stored last does not count the call yet."""
        self._has_begun = self._in_flight.begin()
        return self._has_begun

    def __enter__(self) -> Self:
        """Enter before the call begins."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the call, if it has begun."""
        if self._has_begun:
            self._in_flight.end()


def foreseen(batch: HeldBatch, slice_index: int, ended: int, waiting: int) -> int | None:
    """Return how many calls of a slice may start before its next event, at a guess from the lines.

    Too few cost a call an event of its own, too many are written off if the node dies.

    Args:
        batch: The batch.
        slice_index: The slice.
        ended: Calls of the slice whose turns others get now, or its own next ones.
        waiting: Calls of the slice that have a turn and wait until they are counted.
    """
    for gate in batch.gates:
        if gate.trouble() is not None:
            continue  # the next route gets the calls
        if gate.condition.is_free or not gate.condition.is_scarce:
            return None
        return waiting + _coming(gate, (batch.batch_id, slice_index), ended, waiting)
    return waiting


def _coming(gate: Gate, key: tuple[str, int], ended: int, waiting: int) -> int:
    """Return how many of the next turns of a route are the slice's."""
    # Whoever needs an event, or soon will, asks for as many as those in flight make room for.
    turns = gate.near + max(gate.in_flight, STEP) if waiting else ended + STEP
    line = gate.line.first(turns)
    own = sum((one.batch_id, one.slice_index) == key for one in line)
    # Where the line is short, those whose calls have ended come back with their next ones.
    return own + min(ended, turns - len(line))
