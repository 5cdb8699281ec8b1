"""The projection: events folded once, in order, into the live state and the tables."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog
from rpds import HashTrieMap

from millstream.domain.batch import BatchState, apply
from millstream.domain.stuck import moved_at
from millstream.eventlog.chain import ChainState, RecentRoots
from millstream.eventlog.stored import Decoder, Stored
from millstream.runtime.clock import boot_seconds
from millstream_projector.changes import Changes
from millstream_projector.heads import Known, lengthened
from millstream_projector.progress import Progress
from millstream_projector.store import Store
from millstream_schemas.slices import SampleGenerated, SliceEvent

log = structlog.get_logger()

COMMIT_INTERVAL_S = 0.05
EVENTS_MOST = 10_000
LATENCIES = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live batches as of a checkpoint, and each model's usual latency: never changed.

    ``chain`` is the hash chain at the checkpoint.
    """

    checkpoint: int = 0
    live: "HashTrieMap[str, Known]" = field(default_factory=HashTrieMap)
    latency_p95_s: "HashTrieMap[str, float]" = field(default_factory=HashTrieMap)
    chain: ChainState = field(default_factory=ChainState)


class Projection:
    """Folds events and stores what follows. ``advance`` belongs to one thread, the writer's.

    ``snapshot`` may be read from any thread: it is replaced as a whole, after each commit.
    """

    def __init__(self, store: Store, *, is_chained: bool = True) -> None:
        """Go on where the store's checkpoint stands.

        ``is_chained`` is false for a fold of a part of the log, which has no hash chain.
        """
        self._store = store
        self._is_chained = is_chained
        self._latencies = {
            model: deque(found, LATENCIES)
            for model, found in store.recent_latencies(LATENCIES).items()
        }
        self.decode = Decoder()
        self.snapshot = Snapshot(
            store.checkpoint,
            HashTrieMap({found.state.batch_id: found for found in store.load_live()}),
            HashTrieMap({model: _p95_s(found) for model, found in self._latencies.items()}),
            store.load_chain(),
        )
        self.roots = RecentRoots()

    def advance(self, stored: Sequence[Stored]) -> int:
        """Fold what lies beyond the checkpoint, in one transaction; return the new checkpoint.

        Events at or below the checkpoint were folded before: redelivery changes nothing.

        Raises:
            StoreError: nothing was stored and the snapshot stands as before.
        """
        news = [item for item in stored if item.sequence > self._store.checkpoint]
        if not news:
            return self._store.checkpoint
        chain = ChainState(news[-1].sequence)
        if self._is_chained:
            chain = self.roots.extend(self.snapshot.chain, news)
        changes = Changes(chain.sequence, chain.root, chain.events)
        step = _Step(self._store, self.snapshot, changes)
        for item in news:
            step.take(item, self.decode)
        step.settle()
        self._store.write(changes)
        self.snapshot = self._next(step, chain)
        self._store.tidy(idle=False)
        return self._store.checkpoint

    def rest(self) -> None:
        """Use a quiet moment to move DuckDB's write-ahead log into the file."""
        self._store.tidy(idle=True)

    def _next(self, step: "_Step", chain: ChainState) -> Snapshot:
        live = self.snapshot.live
        for batch_id, found in step.batches.items():
            if found.state.is_live:
                live = live.insert(batch_id, found)
            elif batch_id in live:  # an ended batch leaves the memory
                live = live.remove(batch_id)
        p95 = self.snapshot.latency_p95_s
        for model, latencies in step.latencies.items():
            recent = self._latencies.setdefault(model, deque(maxlen=LATENCIES))
            recent.extend(latencies)
            p95 = p95.insert(model, _p95_s(recent))
        return Snapshot(chain.sequence, live, p95, chain)


class _Step:
    """One micro-batch on its way into the tables."""

    def __init__(self, store: Store, base: Snapshot, changes: Changes) -> None:
        self._store = store
        self._base = base
        self.changes = changes
        self.batches: dict[str, Known] = {}
        self.latencies: dict[str, list[float]] = {}
        self._touched: dict[str, set[int]] = {}

    def take(self, stored: Stored, decode: Decoder) -> None:
        """Fold one event; one that can't be read changes nothing and is counted."""
        recorded = decode(stored)
        if recorded is None:
            return
        event = recorded.event
        before = self._batch(event.batch_id)
        after = apply(before.state, recorded)
        moved = moved_at(recorded)
        if moved is not None and before.moved_at is not None:
            moved = max(moved, before.moved_at)
        lengths = before.lengths
        is_counted = self.changes.add(stored, recorded, before.state, after)
        if is_counted and isinstance(event, SampleGenerated):
            lengths = lengthened(lengths, event.content)
        self.batches[event.batch_id] = Known(after, moved or before.moved_at, lengths)
        touched = self._touched.setdefault(event.batch_id, set())
        if isinstance(event, SliceEvent):
            touched.add(event.slice)
        if isinstance(event, SampleGenerated) and event.usage.latency_ms and after.started:
            latencies = self.latencies.setdefault(after.spec.model, [])
            latencies.append(event.usage.latency_ms)

    def _batch(self, batch_id: str) -> Known:
        found = self.batches.get(batch_id) or self._base.live.get(batch_id)
        # An event may come after its batch has ended, when only the tables know the batch.
        return found or self._store.load(batch_id) or Known(BatchState(batch_id))

    def settle(self) -> None:
        """Add the rows that depend on where the micro-batch ends."""
        for batch_id, known in self.batches.items():
            self.changes.settle(known, self._touched[batch_id])


def _p95_s(latencies_ms: Sequence[float]) -> float:
    ordered = sorted(latencies_ms)
    return ordered[(len(ordered) * 95 - 1) // 100] / 1000


async def project(
    feed: AsyncGenerator[list[Stored], None],
    projection: Projection,
    progress: Progress,
    writer: Executor,
    stop: asyncio.Event,
) -> None:
    """Keep the read model at the end of the log until ``stop``.

    ``feed`` yields what follows the checkpoint, and an empty list in each quiet second.
    The first event after a quiet time is stored at once; then at most one commit in 50 ms, so
    that a busy log costs few transactions and a quiet one no waiting.

    Raises:
        StoreError: the read model takes no rows; nothing is lost, a restart reads them again.
    """
    loop = asyncio.get_running_loop()
    async with aclosing(feed):
        async for stored in feed:
            if stop.is_set():
                return
            if not stored:
                await loop.run_in_executor(writer, projection.rest)
                continue
            begun = boot_seconds()
            for start in range(0, len(stored), EVENTS_MOST):
                chunk = stored[start : start + EVENTS_MOST]
                checkpoint = await loop.run_in_executor(writer, projection.advance, chunk)
                await progress.reach(checkpoint)
            await asyncio.sleep(max(0.0, COMMIT_INTERVAL_S - (boot_seconds() - begun)))
