"""Which slices of a batch wait in the work queue, and which come next; pure."""

import itertools
from collections.abc import Iterable, Iterator

from millstream.domain import slice as slices
from millstream.domain.batch_state import BatchState
from millstream_schemas.control import BatchSpec

AHEAD_LEAST = 4
AHEAD_SLOTS = 256


def ahead(spec: BatchSpec) -> int:
    """Return how many slices of a batch may wait for a node at once.

    A line is served in order, so this is what one batch can put in front of another.
    """
    return max(AHEAD_LEAST, AHEAD_SLOTS // spec.slice_size)


class Window:
    """What the dispatcher knows of one batch's slices; the log and the queue know better.

    The calls that the slices in the queue and on nodes may have in flight never exceed the batch's
    concurrency, on any number of nodes. A slice near its end has no more calls than open slots, as
    the log tells: another slice gets the rest.
    """

    def __init__(self, state: BatchState) -> None:
        self.queued: set[int] = set()
        self.is_known = False
        """Whether ``queued`` was ever read from the queue."""
        self.held = {index for index in state.slices if _is_held(state, index)}
        """Open slices whose last event says that a node has them."""
        self._returned: set[int] = set()
        # How many calls fewer than others the slices near their end have.
        self._fewer = {index: _fewer_calls(state, index) for index in self.held}
        self._next = 0

    def moved(self, state: BatchState, index: int) -> bool:
        """Follow a slice's new tail; tell whether that may have made room for another."""
        if _is_done(state, index):
            for group in (self.queued, self.held, self._returned):
                group.discard(index)
            self._fewer.pop(index, None)
            return True
        fewer = self._fewer[index] = _fewer_calls(state, index)
        was_held = index in self.held
        if _is_held(state, index):
            self.held.add(index)
            return not was_held or (fewer > 0 and self._has_room(state))
        self.held.discard(index)
        return was_held

    def is_queued(self, indices: Iterable[int]) -> None:
        """Note that slices wait in the queue."""
        self.queued.update(indices)
        self._returned.difference_update(self.queued)

    def is_missing(self, index: int) -> None:
        """Note that an open slice is not in the queue and must come back to it."""
        self.queued.discard(index)
        self._returned.add(index)

    def forget_queue(self) -> None:
        """Note that nothing is known of the queue: workers of a paused batch empty it."""
        self.queued, self._returned = set(), set()
        self.is_known, self._next = False, 0

    def matched(self, state: BatchState, found: set[int]) -> list[int]:
        """Follow what the queue holds now; return the held slices that it has lost.

        Who holds those may well go on: whether they come back is for the caller to say. The
        others that were lost do at once.
        """
        open_found = {index for index in found if not _is_done(state, index)}
        for index in self.queued - found:
            if index not in self.held and not _is_done(state, index):
                self._returned.add(index)
        self.queued = open_found
        self._returned -= open_found
        self.is_known = True
        return sorted(self.held - found)

    def wanted(self, state: BatchState) -> list[int]:
        """Return the slices that belong into the queue now, those that came back first.

        They are named again until ``is_queued`` tells that they are there.
        """
        room = ahead(state.spec) - len(self.queued - self.held)
        free = self._free_calls(state)
        chosen: list[int] = []
        coming = itertools.chain(sorted(self._returned), self._new_ones(state))
        while len(chosen) < room and (index := next(coming, None)) is not None:
            free -= slices.parallel_calls(state.spec) - self._fewer.get(index, 0)
            if free < 0:
                break
            chosen.append(index)
        return chosen

    def _new_ones(self, state: BatchState) -> Iterator[int]:
        """Yield the open slices that were never queued, each noted as one that has to be."""
        while self._next < state.spec.slices:
            index = self._next
            self._next += 1
            known = index in self.queued or index in self.held or index in self._returned
            if not known and not _is_done(state, index):
                self._returned.add(index)
                yield index

    def _free_calls(self, state: BatchState) -> int:
        """Return how many calls of the batch's concurrency no slice has or waits for."""
        taken = (self.queued | self.held) - self._returned
        fewer = sum(self._fewer[index] for index in taken & self._fewer.keys())
        return state.spec.concurrency - slices.parallel_calls(state.spec) * len(taken) + fewer

    def _has_room(self, state: BatchState) -> bool:
        """Tell whether another slice may be queued, and whether there is one."""
        is_left = bool(self._returned) or self._next < state.spec.slices
        return is_left and self._free_calls(state) >= slices.parallel_calls(state.spec)


def pending(state: BatchState) -> int:
    """Return how many slots of a live batch have no outcome."""
    totals = state.totals
    return state.spec.target - totals.generated - totals.failed - totals.abandoned


def _fewer_calls(state: BatchState, index: int) -> int:
    """Return by how many calls a slice has fewer in flight for lack of open slots."""
    done = slices.resolved(state.slices[index].state).bit_count()
    return max(0, slices.parallel_calls(state.spec) - state.slice_size(index) + done)


def _is_done(state: BatchState, index: int) -> bool:
    tail = state.slices.get(index)
    return tail is not None and slices.is_done(tail.state, state.slice_size(index))


def _is_held(state: BatchState, index: int) -> bool:
    tail = state.slices.get(index)
    return tail is not None and tail.state.node != "" and not _is_done(state, index)
