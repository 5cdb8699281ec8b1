"""Any moment of the past: what queries answer at S is the fold of the log up to S."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.eventlog.stored import Stored, decode
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENDINGS, any_event, play
from millstream.testing.tape import Tape
from millstream.testing.tape_log import TapeLog
from millstream_projector.opening import open_store
from millstream_projector.past.as_of import Past
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_projector.views import queries
from millstream_schemas import subjects, views
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import SliceEvent

STREAM = "2026-01-01T00:00:00Z"


def garbage(rng: Random, length: int) -> Tape:
    """A log that no sound system writes."""
    tape, spec = Tape(), example_spec(5, slice_size=2)
    for _ in range(length):
        event = any_event(rng, spec)
        tape.append(event.model_copy(update={"subject": _subject(event)}))
    return tape


def _subject(event: BatchEvent) -> str:
    if isinstance(event, SliceEvent):
        return subjects.slice_(BATCH, event.slice)
    return subjects.control(BATCH)


def folded(directory: str, stored: list[Stored], rng: Random) -> Store:
    """A read model of the whole log, made in micro-batches of any size."""
    store = open_store(Path(directory), stream=STREAM, last_sequence=10**9)
    projection = Projection(store)
    done = 0
    while done < len(stored):
        size = rng.choice([1, 3, 10, 40])
        projection.advance(stored[done : done + size])
        done += size
    return store


def states_at(stored: Sequence[Stored], until: int) -> dict[str, BatchState]:
    states: dict[str, BatchState] = {}
    for recorded in map(decode, stored[:until]):
        if recorded is not None:
            name = recorded.event.batch_id
            states[name] = apply(states.get(name) or BatchState(name), recorded)
    return {name: state for name, state in states.items() if state.started is not None}


def assert_the_past_is_the_fold(store: Store, stored: list[Stored], log: TapeLog) -> None:
    reader = store.reader()
    for until in range(len(stored) + 1):
        expected = states_at(stored, until)
        answer = queries.answer(
            reader,
            "history",
            views.HistoryQuery(),
            most_bytes=10**7,
            past=Past(until, log),
        )
        page = views.BatchPage.model_validate_json(answer)
        assert page.as_of == until
        assert {view.id: view for view in page.batches} == {
            name: batch_view(state) for name, state in expected.items()
        }
        assert page.states == Counter(batch_view(state).state for state in expected.values())
    now = queries.answer(reader, "history", views.HistoryQuery(), most_bytes=10**7)
    assert views.BatchPage.model_validate_json(now).as_of == len(stored)
    reader.close()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), ending=st.sampled_from(ENDINGS), moves=st.integers(0, 40))
def test_a_sound_log_is_seen_at_any_sequence_as_it_was(seed: int, ending: str, moves: int) -> None:
    rng = Random(seed)
    stored = play(rng, example_spec(7, slice_size=3), moves, ending).tape.stored
    log = TapeLog(stored)
    with TemporaryDirectory() as directory:
        store = folded(directory, stored, rng)
        assert_the_past_is_the_fold(store, stored, log)
        store.close()
    assert log.whole_reads == 0


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 40))
def test_a_log_that_breaks_rules_is_seen_at_any_sequence_as_it_was(seed: int, length: int) -> None:
    rng = Random(seed)
    stored = garbage(rng, length).stored
    with TemporaryDirectory() as directory:
        store = folded(directory, stored, rng)
        assert_the_past_is_the_fold(store, stored, TapeLog(stored))
        store.close()
