"""Which slices of a batch wait in the work queue, and which come next; pure."""

from collections.abc import Iterable

from millstream.domain import slice as slices
from millstream.domain.batch_state import BatchState
from millstream_schemas.control import BatchSpec

AHEAD_LEAST = 4
AHEAD_SLOTS = 256


def window(spec: BatchSpec) -> int:
    """Return how many slices of a batch may be queued or leased at once.

    Times ``parallel_calls`` that never exceeds the batch's concurrency, on any number of nodes.
    """
    return spec.concurrency // slices.parallel_calls(spec)


def ahead(spec: BatchSpec) -> int:
    """Return how many slices of a batch may wait for a node at once.

    A line is served in order, so this is what one batch can put in front of another.
    """
    return max(AHEAD_LEAST, AHEAD_SLOTS // spec.slice_size)


class Window:
    """What the dispatcher knows of one batch's slices; the log and the queue know better."""

    def __init__(self, state: BatchState) -> None:
        self.queued: set[int] = set()
        self.is_known = False
        """Whether ``queued`` was ever read from the queue."""
        self.held = {index for index in state.slices if _is_held(state, index)}
        """Open slices whose last event says that a node has them."""
        self._returned: set[int] = set()
        self._next = 0

    def moved(self, state: BatchState, index: int) -> bool:
        """Follow a slice's new tail; tell whether that may have made room for another."""
        if _is_done(state, index):
            for group in (self.queued, self.held, self._returned):
                group.discard(index)
            return True
        was_held = index in self.held
        if _is_held(state, index):
            self.held.add(index)
            return not was_held
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
        spec = state.spec
        waiting = len(self.queued - self.held)
        taken = (self.queued | self.held) - self._returned
        room = min(window(spec) - len(taken), ahead(spec) - waiting)
        chosen: list[int] = sorted(self._returned)[: max(0, room)]
        while len(chosen) < room and self._next < spec.slices:
            index = self._next
            self._next += 1
            known = index in self.queued or index in self.held or index in self._returned
            if not known and not _is_done(state, index):
                self._returned.add(index)
                chosen.append(index)
        return chosen


def pending(state: BatchState) -> int:
    """Return how many slots of a live batch have no outcome."""
    totals = state.totals
    return state.spec.target - totals.generated - totals.failed - totals.abandoned


def _is_done(state: BatchState, index: int) -> bool:
    tail = state.slices.get(index)
    return tail is not None and slices.is_done(tail.state, state.slice_size(index))


def _is_held(state: BatchState, index: int) -> bool:
    tail = state.slices.get(index)
    return tail is not None and tail.state.node != "" and not _is_done(state, index)
