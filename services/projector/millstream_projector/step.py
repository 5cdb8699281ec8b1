"""One transaction's worth of events on its way into the tables."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from rpds import HashTrieMap

from millstream.domain.batch import BatchState, apply
from millstream.domain.runs import GENERATED, Run, moves_until
from millstream.domain.stuck import moved_at
from millstream.eventlog.chain import ChainState
from millstream.eventlog.lean import LeanReader, solid
from millstream.eventlog.stored import Decoder, Stored
from millstream_projector.changes import ATTEMPT_TYPES, Changes, is_new_sample
from millstream_projector.heads import Known, lengthen
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.redactions import SampleRedacted
from millstream_schemas.slices import SampleGenerated, SliceEvent

BULK_EVENTS = 60_000
"""Rows of two row groups go straight into DuckDB's file instead of through its log."""
BULK_BYTES = 96 * 2**20

Load = Callable[[str], Known | None]


class _Fold:
    """One batch while events of it are taken."""

    __slots__ = ("lengths", "moved_at", "run", "state", "touched")

    def __init__(self, known: Known) -> None:
        self.state = known.state
        self.run: Run | None = None
        self.moved_at = known.moved_at
        self.lengths = {name: list(pair) for name, pair in known.lengths.items()}
        self.touched: set[int] = set()

    def move(self, moved: datetime | None) -> None:
        if moved is not None and (self.moved_at is None or moved > self.moved_at):
            self.moved_at = moved

    def settle(self) -> BatchState:
        """Return the state after all that was taken."""
        if self.run is not None:
            self.touched.update(self.run.slices)
            self.state = self.run.state(solid)
            self.run = None
        return self.state


class Step:
    """Folds events one by one; ``settle`` gives what they change."""

    def __init__(self, load: Load, live: "HashTrieMap[str, Known]", chain: ChainState) -> None:
        """Begin behind ``live`` batches; ``load`` finds those that have ended."""
        self._load = load
        self._live = live
        self.chain = chain
        self.sequence = chain.sequence
        self.latencies: dict[str, list[float]] = {}
        self._changes = Changes()
        self._folds: dict[str, _Fold] = {}
        self._events = 0
        self._bytes = 0

    @property
    def is_large(self) -> bool:
        """Whether it is enough for a transaction of its own."""
        return self._events >= BULK_EVENTS or self._bytes >= BULK_BYTES

    def take(self, stored: Stored, read: LeanReader, decode: Decoder) -> None:
        """Fold one event; one that can't be read changes nothing and is counted."""
        self._fold(stored, read, decode)
        self.sequence = stored.sequence
        self._events += 1
        self._bytes += len(stored.payload)

    def _fold(self, stored: Stored, read: LeanReader, decode: Decoder) -> None:
        found = read(stored.payload)
        if found is not None:
            kind, event = found
            fold = self._folds.get(event.batch_id) or self._begin(event.batch_id)
            run = fold.run
            if run is None:
                run = fold.run = Run(fold.state)
            counted = run.take(stored.sequence, stored.stored_at, event, kind)
            if counted is not None:
                decode.look(stored.sequence, event)
                fold.move(moves_until(stored.stored_at, event, kind))
                self._add(fold, stored, event, kind, is_counted=counted == 1)
                return
        self._apply(stored, decode)

    def _apply(self, stored: Stored, decode: Decoder) -> None:
        recorded = decode(stored)
        if recorded is None:
            return
        event: BatchEvent = recorded.event
        fold = self._folds.get(event.batch_id) or self._begin(event.batch_id)
        decode.look(stored.sequence, event)
        before = fold.settle()
        after = fold.state = apply(before, recorded)
        fold.move(moved_at(recorded))
        if isinstance(event, SliceEvent):
            fold.touched.add(event.slice)
        if isinstance(event, SampleRedacted):
            self._changes.redactions.append(stored)
        is_counted = isinstance(event, SampleGenerated) and is_new_sample(event, before, after)
        self._add(fold, stored, event, getattr(event, "type", ""), is_counted=is_counted)

    def _add(self, fold: _Fold, stored: Stored, event: Any, kind: str, *, is_counted: bool) -> None:
        """Add the row of one event, which may be one of the contract or a lean one."""
        if is_counted:
            self._changes.samples.add(stored, event, kind)
            lengthen(fold.lengths, event.content)
        elif kind in ATTEMPT_TYPES:
            self._changes.attempts.add(stored, event, kind)
        else:
            self._changes.events.add(stored, event, kind)
        if kind == GENERATED and event.usage.latency_ms and fold.state.started is not None:
            latencies = self.latencies.setdefault(fold.state.spec.model, [])
            latencies.append(event.usage.latency_ms)

    def _begin(self, batch_id: str) -> _Fold:
        # An event may come after its batch has ended, when only the tables know the batch.
        known = self._live.get(batch_id) or self._load(batch_id) or Known(BatchState(batch_id))
        fold = self._folds[batch_id] = _Fold(known)
        return fold

    def batches(self) -> Iterator[tuple[str, Known]]:
        """Give each batch that was touched, as it is now."""
        for batch_id, fold in self._folds.items():
            lengths = {name: (pair[0], pair[1]) for name, pair in fold.lengths.items()}
            yield batch_id, Known(fold.settle(), fold.moved_at, lengths)

    def settle(self) -> Changes:
        """Return all that the events change; call it once."""
        changes = self._changes
        changes.checkpoint = self.chain.sequence
        changes.root, changes.chained = self.chain.root, self.chain.events
        for batch_id, known in self.batches():
            changes.settle(known, self._folds[batch_id].touched)
        return changes
