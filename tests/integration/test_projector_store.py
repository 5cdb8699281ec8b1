"""The read model's file: always exactly the fold of the log up to its checkpoint."""

import gc
import shutil
import tempfile
import weakref
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import microseconds
from millstream.domain.view import batch_view
from millstream.eventlog.stored import Decoder, Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.sound_steps import legal_steps, plain_fold
from millstream.testing.tape import Tape
from millstream_projector.changes import Changes
from millstream_projector.columns import Rows
from millstream_projector.heads import Known
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.rows import plain_columns
from millstream_projector.store import Store, StoreError
from millstream_projector.tables import SLICE_STATES
from millstream_schemas import slices
from millstream_schemas.views import BatchView

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9


def opened(path: Path, **fields: Any) -> Store:
    return open_store(path, **{"stream": STREAM, "last_sequence": FAR, **fields})


def rows(store: Store, sql: str) -> list[Any]:
    reader = store.reader()
    try:
        return reader.execute(sql).fetchall()
    finally:
        reader.close()


def plain_dataset(stored: list[Stored]) -> list[int]:
    """Sequences of the samples that count, told with plain sets instead of the fold."""
    decode, done, counted = Decoder(), set[tuple[str, int]](), []
    ended, started = set[str](), set[str]()
    for item in stored:
        recorded = decode(item)
        if recorded is None:
            continue
        event = recorded.event
        kind = type(event).__name__
        if kind == "BatchStarted":
            started.add(event.batch_id)
        if kind in {"BatchStopped", "BatchCompleted", "BatchFailed"}:
            ended.add(event.batch_id)
        if not isinstance(event, slices.SampleGenerated | slices.SampleFailed):
            continue
        place = (event.batch_id, event.slot)
        is_first = place not in done and event.batch_id in started - ended
        if is_first and kind == "SampleGenerated":
            counted.append(item.sequence)
        if is_first:
            done.add(place)
    return counted


def assert_equals_the_fold(store: Store, stored: list[Stored]) -> None:
    prefix = [item for item in stored if item.sequence <= store.checkpoint]
    states = plain_fold(prefix)
    for batch_id, state in states.items():
        loaded = store.load(batch_id)
        assert loaded is not None
        assert loaded.state == state
    views = rows(store, "SELECT view, batch_id FROM batches ORDER BY batch_id")
    assert [batch_id for _, batch_id in views] == sorted(states)
    for view, batch_id in views:
        state = states[batch_id]
        if state.started is None:
            assert view is None
        else:
            assert BatchView.model_validate_json(view) == batch_view(state)
    counted = [seq for (seq,) in rows(store, "SELECT seq FROM samples ORDER BY seq")]
    assert counted == plain_dataset(prefix)
    told = rows(
        store,
        "SELECT batch_id, first_sample_seq, first_sample_at, first_sample_model,"
        " first_sample_provider FROM batches WHERE first_sample_at IS NOT NULL ORDER BY 1",
    )
    assert told == rows(
        store,
        "SELECT batch_id, min(seq), arg_min(stored_at, seq), arg_min(model, seq),"
        " arg_min(provider, seq) FROM samples GROUP BY 1 ORDER BY 1",
    )
    assert {found.state.batch_id: found.state for found in store.load_live()} == {
        batch_id: state for batch_id, state in states.items() if state.is_live
    }


class StoreMachine(RuleBasedStateMachine):
    """Appends, projects in any chunks, redelivers, and crashes between and in transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.homes = 0
        self.tape = Tape()
        self.scripts = [
            Script(
                self.tape,
                batch_id=f"batch_1767225600_{number:08x}",
                spec=example_spec(5, slice_size=2),
            )
            for number in range(3)
        ]
        self.stored: list[Stored] = []
        self.checked = -1

    @initialize()
    def open(self) -> None:
        self.store = opened(self.directory / "0")
        self.projection = Projection(self.store)

    def _append_new(self) -> None:
        # Foreign messages stand between, so sequences are the stream's, not the tape's.
        for entry in self.tape.entries[len([s for s in self.stored if s.subject != "foreign"]) :]:
            self._store_as_next(entry.stored.subject, entry.stored.payload)

    def _store_as_next(self, subject: str, payload: bytes) -> None:
        sequence = len(self.stored) + 1
        self.stored.append(Stored(sequence, microseconds(self.tape.now), subject, payload))

    @rule(number=st.integers(0, 2), seed=st.integers(0, 2**32), steps=st.integers(1, 12))
    def append(self, number: int, seed: int, steps: int) -> None:
        rng = Random(seed)
        for _ in range(steps):
            choices = legal_steps(self.scripts[number])
            if choices:
                rng.choice(choices)()
        self._append_new()

    @rule(choice=st.integers(0, 2**16))
    @precondition(lambda self: self.stored)
    def append_an_old_event_again(self, choice: int) -> None:
        old = self.stored[choice % len(self.stored)]
        self._store_as_next("foreign", old.payload)

    @rule(payload=st.sampled_from([b"", b"{", b"[]", b'{"type": "batch.dreamt.v9"}', b"\xff"]))
    def append_what_nobody_can_read(self, payload: bytes) -> None:
        self._store_as_next("foreign", payload)

    @rule(back=st.integers(0, 5), size=st.integers(1, 60))
    def project(self, back: int, size: int) -> None:
        start = max(0, self.store.checkpoint - back)
        self.projection.advance(self.stored[start : self.store.checkpoint + size])

    @rule()
    def fail_in_a_transaction(self) -> None:
        broken = Changes(self.store.checkpoint + 1)
        state = BatchState("batch_1767225600_0000000a", sequence=self.store.checkpoint + 1)
        broken.settle(Known(state), set())
        rows = Rows(SLICE_STATES.columns)
        rows.extend(plain_columns(SLICE_STATES, [{"seq": None}]))
        broken.appended.append((SLICE_STATES, rows.arrow()))
        with pytest.raises(StoreError, match="takes no rows"):
            self.store.write(broken)

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files as they are on disk, as after a kill."""
        self.homes += 1
        home = self.directory / str(self.homes)
        shutil.copytree(self.store.path.parent, home)
        self.store.close()
        self._reopen(home)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self._reopen(self.store.path.parent)

    def _reopen(self, home: Path) -> None:
        checkpoint = self.store.checkpoint
        self.store = opened(home)
        assert self.store.checkpoint == checkpoint
        self.projection = Projection(self.store)
        self.checked = -1

    @invariant()
    def tables_equal_the_fold_of_the_checkpointed_prefix(self) -> None:
        if self.store.checkpoint == self.checked:
            return
        assert_equals_the_fold(self.store, self.stored)
        live = self.projection.snapshot.live
        assert {found.state.batch_id for found in live.values()} == {
            batch_id
            for batch_id, state in plain_fold(self.stored[: self.store.checkpoint]).items()
            if state.is_live
        }
        self.checked = self.store.checkpoint

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


def test_rows_and_checkpoint_are_the_fold_through_any_crash() -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_store_that_is_dropped_unclosed_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_store(tmp_path, stream="", last_sequence=1)
    # What DuckDB was told of: it would keep it, and the whole of DuckDB at the interpreter's end.
    told = [weakref.ref(incoming._source) for incoming in store._incoming.values()]
    assert all(source() for source in told)
    del store
    gc.collect()
    assert [source() for source in told] == [None] * len(told)
