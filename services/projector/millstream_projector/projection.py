"""The projection: events folded once, in order, into the live state and the tables."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog
from rpds import HashTrieMap

from millstream.domain.runs import RUN_EVENTS
from millstream.eventlog.chain import ChainState, RecentRoots
from millstream.eventlog.lean import LeanReader
from millstream.eventlog.stored import Decoder, Stored
from millstream.runtime.clock import boot_seconds
from millstream_projector.changes import Changes
from millstream_projector.heads import Known
from millstream_projector.progress import Progress
from millstream_projector.room import Patience
from millstream_projector.step import Step

log = structlog.get_logger()

COMMIT_INTERVAL_S = 0.05
AWAITED_INTERVAL_S = 0.02
"""The least time from one commit to the next while somebody waits for a sequence."""
UNASKED_INTERVAL_S = 0.25
"""The same while nobody asks: a transaction costs about as much for one event as for a hundred."""
EVENTS_MOST = 10_000
FAR_BEHIND = 50_000
"""From here on the log is folded as in a rebuild: large transactions, no pauses between."""
PIECE = 128
"""Events that are folded, chained and made rows of before the next ones are looked at: as many as
the processor's caches hold."""
LATENCIES = 50

Extend = Callable[[ChainState, Sequence[Stored]], ChainState]
"""Gives the hash chain after more events, which are told once each and in order."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live batches as of a checkpoint, and each model's usual latency: never changed.

    ``chain`` is the hash chain at the checkpoint.
    """

    checkpoint: int = 0
    live: "HashTrieMap[str, Known]" = field(default_factory=HashTrieMap)
    latency_p95_s: "HashTrieMap[str, float]" = field(default_factory=HashTrieMap)
    chain: ChainState = field(default_factory=ChainState)


class Keeper(Protocol):
    """Where a projection stores what it folds, and finds what it folded before: a ``Store``."""

    @property
    def checkpoint(self) -> int:
        """The sequence up to which everything is stored."""

    def write(self, changes: Changes) -> None:
        """Store the changes and move the checkpoint: all or nothing."""

    def tidy(self, *, idle: bool) -> bool:
        """Do what may be done between two transactions."""

    def load(self, batch_id: str) -> Known | None:
        """Return the fold of one batch as of the checkpoint; called while another writes."""

    def load_live(self) -> list[Known]:
        """Return the folds of all batches that have not ended."""

    def load_chain(self) -> ChainState:
        """Return the hash chain as of the checkpoint."""

    def recent_latencies(self, limit: int) -> dict[str, list[float]]:
        """Return the last latencies (ms, oldest first) of each live batch's model."""


class Projection:
    """Folds events and stores what follows. ``advance`` belongs to one thread, the writer's.

    ``snapshot`` may be read from any thread: it is replaced as a whole, after each commit.
    """

    def __init__(
        self,
        store: Keeper,
        *,
        extend: Extend | None = None,
        on_stored: Callable[[Changes], None] | None = None,
    ) -> None:
        """Go on where the store's checkpoint stands.

        ``extend`` gives the hash chain where somebody else computes it, or where there is none;
        ``roots`` stays empty then. ``on_stored`` is told of each transaction before ``advance``
        returns.
        """
        self._on_stored = on_stored
        self._store = store
        self._latencies = {
            model: deque(found, LATENCIES)
            for model, found in store.recent_latencies(LATENCIES).items()
        }
        self.decode = Decoder()
        self.read = LeanReader(RUN_EVENTS)
        self.snapshot = Snapshot(
            store.checkpoint,
            HashTrieMap({found.state.batch_id: found for found in store.load_live()}),
            HashTrieMap({model: _p95_s(found) for model, found in self._latencies.items()}),
            store.load_chain(),
        )
        self.roots = RecentRoots()
        self._extend = extend or self.roots.extend
        self._folded = self.snapshot
        self._step: Step | None = None
        self._waiting: tuple[Changes, Snapshot] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="committer")
        self._commit: Future[None] | None = None
        self._storing: dict[str, Known] = {}
        self._erasing: set[str] = set()

    def advance(self, stored: Sequence[Stored], *, is_bulk: bool = False) -> int:
        """Fold what lies beyond the checkpoint; return the checkpoint.

        Events that were folded before change nothing. All are stored in one transaction before
        this returns; with ``is_bulk`` they are gathered into large ones, and one is being stored
        while the next is folded, until this is called without.

        Raises:
            StoreError: what the checkpoint does not cover was not stored. It is kept: the same
                call again tries again.
        """
        self.take(stored)
        if not is_bulk:
            self.end_step()
            self._committed()
        elif self._step is not None and self._step.is_large:
            self.end_step()
        return self._store.checkpoint

    def take(self, stored: Sequence[Stored]) -> None:
        """Fold what lies beyond the checkpoint into the transaction to come; raises as ``load``."""
        folded = self._step.sequence if self._step else self._folded.checkpoint
        news = [item for item in stored if item.sequence > folded]
        for start in range(0, len(news), PIECE):
            self._take(news[start : start + PIECE])

    def _take(self, news: Sequence[Stored]) -> None:
        if self._step is None:
            self._step = Step(self._load, self._folded.live, self._folded.chain)
        step = self._step
        try:
            step.take(news, self.read, self.decode)
        finally:
            # What could not be loaded is taken by the next call.
            taken = [item for item in news if item.sequence <= step.sequence]
            if taken:
                step.chain = self._extend(step.chain, taken)

    def _load(self, batch_id: str) -> Known | None:
        if batch_id in self._erasing:
            self._committed()
            return self._store.load(batch_id)
        # What is being stored may be in the tables already or not yet.
        return self._storing.get(batch_id) or self._store.load(batch_id)

    def end_step(self) -> None:
        """Begin to store what was folded, once all before it is stored; raises as ``advance``."""
        if self._step is None:
            return
        self._committed()
        step, self._step = self._step, None
        changes = step.settle()
        self._folded = self._next(step)
        self._waiting, self._storing = (changes, self._folded), step.batches
        self._erasing = step.erased
        self._commit = self._committer.submit(self._write, changes, self._folded)

    def _write(self, changes: Changes, after: Snapshot) -> None:
        self._store.write(changes)
        self.snapshot = after
        if self._on_stored is not None:
            self._on_stored(changes)
        self._store.tidy(idle=False)

    def _committed(self) -> None:
        """Wait until what was handed over is stored; after a failure, try again."""
        if self._waiting is None:
            return
        commit, self._commit = self._commit, None
        if commit is None:
            commit = self._committer.submit(self._write, *self._waiting)
        commit.result()
        self._waiting = None

    def close(self) -> None:
        """Wait for the transaction under way and end its thread; the store may be closed then."""
        self._committer.shutdown(wait=True)

    def rest(self) -> None:
        """Use a quiet moment to move DuckDB's write-ahead log into the file."""
        self._store.tidy(idle=True)

    def _next(self, step: Step) -> Snapshot:
        live = self._folded.live
        for batch_id, found in step.batches.items():
            if found.state.is_live:
                live = live.insert(batch_id, found)
            elif batch_id in live:  # an ended batch leaves the memory
                live = live.remove(batch_id)
        p95 = self._folded.latency_p95_s
        for model, latencies in step.latencies.items():
            recent = self._latencies.setdefault(model, deque(maxlen=LATENCIES))
            recent.extend(latencies)
            p95 = p95.insert(model, _p95_s(recent))
        return Snapshot(step.chain.sequence, live, p95, step.chain)


def _p95_s(latencies_ms: Sequence[float]) -> float:
    ordered = sorted(latencies_ms)
    return ordered[(len(ordered) * 95 - 1) // 100] / 1000


async def project(
    feed: AsyncGenerator[list[Stored], None],
    projection: Projection,
    progress: Progress,
    writer: Executor,
    stop: asyncio.Event,
    *,
    patience: Patience | None = None,
) -> None:
    """Keep the read model at the end of the log until ``stop``.

    ``feed`` yields what follows the checkpoint, and an empty list in each quiet second.
    The first event after a quiet time is stored at once; then at most one commit in 50 ms, so
    that a busy log costs few transactions and a quiet one no waiting; in 20 ms while somebody
    waits for a sequence, and in 250 ms while nobody asks anything. A full disk is waited out by
    ``patience``.

    Raises:
        StoreError: the read model takes no rows; nothing is lost, a restart reads them again.
    """
    loop = asyncio.get_running_loop()
    patience = patience or Patience()
    try:
        async with aclosing(feed):
            async for stored in feed:
                if stop.is_set():
                    return
                if not stored:
                    if await patience.store(writer, projection.advance, (), stop) is None:
                        return
                    await progress.reach(projection.snapshot.checkpoint)
                    await loop.run_in_executor(writer, projection.rest)
                    continue
                if progress.head - stored[-1].sequence > FAR_BEHIND:
                    catch_up = partial(projection.advance, is_bulk=True)
                    checkpoint = await patience.store(writer, catch_up, stored, stop)
                    if checkpoint is None:
                        return
                    await progress.reach(checkpoint)
                    continue
                begun = boot_seconds()
                for start in range(0, len(stored), EVENTS_MOST):
                    chunk = stored[start : start + EVENTS_MOST]
                    checkpoint = await patience.store(writer, projection.advance, chunk, stop)
                    if checkpoint is None:
                        return
                    await progress.reach(checkpoint)
                took_s = boot_seconds() - begun
                await progress.pause(
                    max(0.0, AWAITED_INTERVAL_S - took_s),
                    max(0.0, COMMIT_INTERVAL_S - took_s),
                    max(0.0, UNASKED_INTERVAL_S - took_s),
                )
    finally:
        await loop.run_in_executor(writer, projection.close)
