"""How many calls a node's slices want in flight, against how many it may have.

A slice is leased only while there is room: another node may have some.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator

from millstream_generator.weights import WEIGHTS
from millstream_schemas.subjects import WorkSubject


class Room:
    """Counts the workers of all leased slices; a worker makes one call at a time.

    A worker that rests (it waits to try again, or for a limit) takes no room. When it goes on there
    may be more workers than calls: the node's own bound on calls then makes some of them wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._workers = 0
        self._leases = 0
        self._of_class: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more workers fit; never below zero."""
        return max(0, self._most - self._workers)

    @property
    def leases(self) -> int:
        """How many slices the node has leased."""
        return self._leases

    def owes(self, work: WorkSubject, workers: int) -> bool:
        """Tell whether a batch may have so many workers more though all calls are taken.

        A batch that has less than an equal share of what its class may have by its weight, next to
        the other classes that are at work here, may: the node's own bound on calls lets all workers
        take turns.
        """
        classes = {priority for priority, batches in self._of_class.items() if batches}
        weights = sum(WEIGHTS[priority] for priority in classes | {work.priority})
        share = round(self._most * WEIGHTS[work.priority] / weights)
        of_batch = self._of_class[work.priority]
        batches = len(of_batch) + (work.batch_id not in of_batch)
        return (of_batch.get(work.batch_id, 0) + workers) * batches <= share

    def of_batch(self, work: WorkSubject, workers: int) -> None:
        """Count workers of a batch that came (above zero) or went, resting ones too."""
        of_batch = self._of_class[work.priority]
        of_batch[work.batch_id] += workers
        if not of_batch[work.batch_id]:
            del of_batch[work.batch_id]

    def changed(self, *, workers: int = 0, leases: int = 0) -> None:
        """Count workers and leases that came (above zero) or went."""
        self._workers += workers
        self._leases += leases
        if workers < 0 or leases < 0:
            self._freed.set()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Take one worker out of the count meanwhile."""
        self.changed(workers=-1)
        try:
            yield
        finally:
            self.changed(workers=1)

    async def wait_freed(self) -> None:
        """Return when a worker or a lease has gone since the last call."""
        await self._freed.wait()
        self._freed.clear()


class Workers:
    """The workers of one leased slice."""

    def __init__(self, room: Room, work: WorkSubject, count: int) -> None:
        self._room = room
        self._work = work
        self._count = 0
        room.changed(leases=1)
        self.resize(count)

    def resize(self, count: int) -> None:
        """Have ``count`` workers from here on."""
        self._room.changed(workers=count - self._count)
        self._room.of_batch(self._work, count - self._count)
        self._count = count

    def end_one(self) -> None:
        """Dismiss a worker that has nothing left to do."""
        self.resize(self._count - 1)

    def close(self) -> None:
        """Dismiss all workers and give the lease back."""
        self.resize(0)
        self._room.changed(leases=-1)
