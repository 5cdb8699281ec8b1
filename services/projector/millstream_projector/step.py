"""One transaction's worth of events on its way into the tables."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from rpds import HashTrieMap

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.runs import GENERATED, Run
from millstream.domain.stuck import moved_at
from millstream.eventlog.chain import ChainState
from millstream.eventlog.lean import LeanReader, solid
from millstream.eventlog.stored import Decoder, Stored
from millstream_projector import tables
from millstream_projector.changes import ATTEMPT_TYPES, END_TYPES, Changes, is_new_sample
from millstream_projector.columns import Rows
from millstream_projector.heads import FirstSample, Known, lengthen
from millstream_projector.rows import (
    Taken,
    attempt_columns,
    event_columns,
    plain_columns,
    sample_columns,
)
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.redactions import SampleRedacted
from millstream_schemas.slices import SampleGenerated, SliceEvent

BULK_EVENTS = 60_000
"""Rows of two row groups go straight into DuckDB's file instead of through its log."""
BULK_BYTES = 96 * 2**20

Load = Callable[[str], Known | None]


class _Fold:
    """One batch while events of it are taken."""

    __slots__ = (
        "contents",
        "first_sample",
        "latencies",
        "lengths",
        "moved_at",
        "run",
        "state",
        "touched",
    )

    def __init__(self, known: Known) -> None:
        self.state = known.state
        self.run: Run | None = None
        self.contents: list[Mapping[str, Any]] = []
        self.moved_at = known.moved_at
        self.first_sample = known.first_sample
        self.lengths = {name: list(pair) for name, pair in known.lengths.items()}
        self.latencies: list[float] | None = None
        self.touched: set[int] = set()

    def move(self, moved: datetime | None) -> None:
        if moved is not None and (self.moved_at is None or moved > self.moved_at):
            self.moved_at = moved

    def settle(self) -> BatchState:
        """Return the state after all that was taken."""
        if self.run is not None:
            self.touched.update(self.run.slices)
            self.move(self.run.moved_at)
            self.state = self.run.state(solid)
            self.run = None
        return self.state


class Step:
    """Folds events in order; ``settle`` gives what they change."""

    def __init__(self, load: Load, live: "HashTrieMap[str, Known]", chain: ChainState) -> None:
        """Begin behind ``live`` batches; ``load`` finds those that have ended."""
        self._load = load
        self._live = live
        self.chain = chain
        self.sequence = chain.sequence
        self.latencies: dict[str, list[float]] = {}
        self.batches: dict[str, Known] = {}
        self.erased: set[str] = set()
        """Batches whose texts are erased, of which the tables alone tell what is left."""
        self._changes = Changes()
        self._samples = Taken(tables.SAMPLES, sample_columns)
        self._attempts = Taken(tables.ATTEMPTS, attempt_columns)
        self._others = Taken(tables.EVENTS, event_columns)
        self._taken: tuple[Taken[Any], ...] = (self._samples, self._attempts, self._others)
        self._told: list[_Fold] = []
        self._folds: dict[str, _Fold] = {}
        self._events = 0
        self._bytes = 0

    @property
    def is_large(self) -> bool:
        """Whether it is enough for a transaction of its own."""
        return self._events >= BULK_EVENTS or self._bytes >= BULK_BYTES

    def take(self, chunk: Iterable[Stored], read: LeanReader, decode: Decoder) -> None:
        """Fold events; one that can't be read changes nothing and is counted."""
        for stored in chunk:
            found = read(stored.payload)
            if found is None or not self._run(stored, *found, decode):
                self._apply(stored, decode)
            self.sequence = stored.sequence
            self._events += 1
            self._bytes += len(stored.payload)
        self._pack()

    def _pack(self) -> None:
        for fold in self._told:
            lengthen(fold.lengths, fold.contents)
            fold.contents = []
        self._told = []
        for taken in self._taken:
            taken.pack()

    def _run(self, stored: Stored, kind: str, event: SliceEvent, decode: Decoder) -> bool:
        """Fold an event in its batch's run; false when ``apply`` must fold it."""
        fold = self._folds.get(event.batch_id) or self._begin(event.batch_id)
        run = fold.run
        if run is None:
            run = fold.run = Run(fold.state)
        counted = run.take(stored.sequence, stored.time_us, event, kind)
        if counted is None:
            return False
        decode.look(stored.sequence, event)
        self._add(fold, stored, event, kind, is_counted=counted == 1)
        return True

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
            self.erased.add(event.batch_id)
        kind = getattr(event, "type", "")
        if kind in END_TYPES:
            self._changes.ended[event.batch_id] = stored.sequence
        is_counted = isinstance(event, SampleGenerated) and is_new_sample(event, before, after)
        self._add(fold, stored, event, kind, is_counted=is_counted)

    def _add(self, fold: _Fold, stored: Stored, event: Any, kind: str, *, is_counted: bool) -> None:
        """Add the row of one event, which may be one of the contract or a lean one."""
        if is_counted:
            self._samples.add(stored, event, kind)
            if not fold.contents:
                self._told.append(fold)
                fold.first_sample = fold.first_sample or FirstSample(
                    stored.sequence, stored.stored_at, event.model, event.provider
                )
            fold.contents.append(event.content)
        elif kind in ATTEMPT_TYPES:
            self._attempts.add(stored, event, kind)
        else:
            self._others.add(stored, event, kind)
        if kind == GENERATED and event.usage.latency_ms:
            if fold.latencies is None and fold.state.started is not None:
                fold.latencies = self.latencies.setdefault(fold.state.spec.model, [])
            if fold.latencies is not None:
                fold.latencies.append(event.usage.latency_ms)

    def _begin(self, batch_id: str) -> _Fold:
        # An event may come after its batch has ended, when only the tables know the batch.
        known = self._live.get(batch_id) or self._load(batch_id) or Known(BatchState(batch_id))
        fold = self._folds[batch_id] = _Fold(known)
        return fold

    def settle(self) -> Changes:
        """Return all that the events change, and keep each batch as it is now; call it once."""
        self._pack()
        changes = self._changes
        changes.appended = [(taken.table, taken.rows.arrow()) for taken in self._taken]
        changes.checkpoint = self.chain.sequence
        changes.root, changes.chained = self.chain.root, self.chain.events
        for batch_id, fold in self._folds.items():
            lengths = {name: (pair[0], pair[1]) for name, pair in fold.lengths.items()}
            state = fold.settle()
            known = Known(state, fold.moved_at, lengths, fold.first_sample)
            self.batches[batch_id] = known
            changes.settle(known, fold.touched)
        self._pack_slices(changes)
        return changes

    def _pack_slices(self, changes: Changes) -> None:
        if changes.slice_states:
            states = Rows(tables.SLICE_STATES.columns)
            states.extend(plain_columns(tables.SLICE_STATES, changes.slice_states))
            changes.appended.append((tables.SLICE_STATES, states.arrow()))
            changes.slice_states = []
