"""The fold: invariants I1-I9 over sound histories and over garbage, redelivery, chunks."""

from collections import Counter
from dataclasses import fields, replace
from datetime import timedelta
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import slice as steps
from millstream.domain.batch import apply, fold
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded
from millstream.domain.view import batch_view
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENDINGS, any_event, own, play
from millstream.testing.tape import BEGIN
from millstream_schemas import slices
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import bits

BRIEF = settings(max_examples=60, deadline=None)
Events = list[Recorded[BatchEvent]]
SPECS = [example_spec(target, slice_size=size) for target in range(1, 11) for size in range(1, 5)]


@st.composite
def histories(draw: st.DrawFn) -> Events:
    """Draw a history that is sound up to a point and goes on with anything."""
    rng = draw(st.randoms(use_true_random=False))
    spec = draw(st.sampled_from(SPECS))
    history = own(play(rng, spec, draw(st.integers(0, 20)), draw(st.sampled_from(ENDINGS))))
    if draw(st.booleans()):
        history = history[: draw(st.integers(0, len(history)))]
        sequence = history[-1].sequence if history else 0
        for _ in range(draw(st.integers(0, 15))):
            sequence += rng.randint(1, 2)
            event = any_event(rng, spec)
            history.append(Recorded(sequence, BEGIN + timedelta(seconds=sequence), event))
    return history


def known(state: BatchState, unknown: set[str]) -> dict[str, object]:
    """Return the fields of ``state`` but those of ``unknown``."""
    return {name: value for name, value in vars(state).items() if name not in unknown}


def states(history: Events) -> list[BatchState]:
    """Return the state before the first event and after each."""
    folded = [BatchState(BATCH)]
    for recorded in history:
        folded.append(apply(folded[-1], recorded))
    return folded


def outcomes(state: BatchState) -> dict[tuple[int, int], str]:
    """Return (slice, offset) -> outcome; fails when a slot has two."""
    found: dict[tuple[int, int], str] = {}
    for index, tail in state.slices.items():
        for name in ("generated", "failed", "abandoned"):
            mask = bits(getattr(tail.state, name))
            for offset in (offset for offset in range(64) if mask >> offset & 1):
                assert (index, offset) not in found, "a slot has two outcomes"
                assert offset < state.slice_size(index), "a slot outside the batch has an outcome"
                found[index, offset] = name
    return found


@BRIEF
@given(histories())
def test_the_four_slot_counts_always_add_up_to_the_target(history: Events) -> None:
    """I1."""
    for state in states(history):
        counts = state.counts
        target = state.spec.target if state.started else 0
        assert counts.generated + counts.failed + counts.abandoned + counts.pending == target
        if not state.is_final:
            tally = Counter(outcomes(state).values())
            assert tally["generated"] == counts.generated
            assert tally["failed"] == counts.failed
            assert tally["abandoned"] == counts.abandoned


@BRIEF
@given(histories())
def test_nothing_leaves_a_final_state(history: Events) -> None:
    """I2 and I4: after the end only sequences, notes, late outcomes and anomalies move."""
    open_to_change = {"sequence", "control_sequence", "note_sequence", "slices"}
    open_to_change |= {"late", "anomalies", "retry", "child", "budgets_warned"}
    for before, after in pairwise(states(history)):
        if before.is_final:
            assert known(before, open_to_change) == known(after, open_to_change)
            assert before.counts == after.counts
            assert outcomes(before) == outcomes(after)


@BRIEF
@given(histories())
def test_an_outcome_is_never_reversed(history: Events) -> None:
    """I3: the first outcome of a slot stands."""
    for before, after in pairwise(states(history)):
        assert outcomes(before).items() <= outcomes(after).items()


@BRIEF
@given(histories())
def test_an_outcome_after_the_end_is_late_once(history: Events) -> None:
    """I4."""
    late: set[tuple[int, int]] = set()
    state = BatchState(BATCH)
    for recorded in history:
        event = recorded.event
        if state.is_final and isinstance(event, slices.SliceEvent):
            mask = steps.resolved(event.after)
            places = {(event.slice, at) for at in range(state.slice_size(event.slice))}
            late |= {place for place in places if mask >> place[1] & 1} - outcomes(state).keys()
        state = apply(state, recorded)
        assert state.late == len(late)


@BRIEF
@given(histories())
def test_a_completed_batch_has_no_open_slot_and_the_counts_of_its_fold(history: Events) -> None:
    """I5; the same holds for the counts of any final event."""
    for before, after in pairwise(states(history)):
        if after.is_final and not before.is_final:
            assert after.counts == before.counts
            assert after.phase != "completed" or after.counts.pending == 0


@BRIEF
@given(histories())
def test_slots_are_abandoned_only_while_stopping(history: Events) -> None:
    """I6."""
    for before, after in pairwise(states(history)):
        if after.counts.abandoned > before.counts.abandoned:
            assert before.phase == "stopping"


@BRIEF
@given(histories())
def test_tokens_and_money_never_fall(history: Events) -> None:
    """I9; what is known once stays known."""
    amounts = ("tokens_in", "tokens_out", "rejected", "attempts_failed", "unconfirmed_calls")
    for before, after in pairwise(states(history)):
        for name in amounts:
            assert getattr(before.counts, name) <= getattr(after.counts, name)
        for name in ("cost_nano_usd", "wasted_nano_usd", "unpriced_calls"):
            old, new = getattr(before.counts, name), getattr(after.counts, name)
            assert old is None or (new is not None and old <= new)
        assert all(after.errors[name] >= count for name, count in before.errors.items())


@BRIEF
@given(histories(), st.randoms(use_true_random=False))
def test_redelivery_changes_nothing(history: Events, rng: Random) -> None:
    once = fold(BATCH, history)
    for recorded in rng.choices(history, k=10) if history else []:
        assert apply(once, recorded) is once
    state = BatchState(BATCH)
    for at, recorded in enumerate(history):
        state = apply(state, recorded)
        for again in rng.choices(history[: at + 1], k=2):
            state = apply(state, again)
    assert state == once


@BRIEF
@given(histories(), st.sets(st.integers(0, 40)))
def test_a_fold_in_any_chunks_equals_the_whole(history: Events, cuts: set[int]) -> None:
    """I8: nothing but the events decides, so a second fold is equal too."""
    edges = sorted({0, len(history), *(cut for cut in cuts if cut < len(history))})
    state = BatchState(BATCH)
    for first, last in pairwise(edges):
        for recorded in history[first:last]:
            state = apply(state, recorded)
    whole = fold(BATCH, history)
    assert state == whole
    assert hash_of(state) == hash_of(whole)


def hash_of(state: BatchState) -> int:
    """Return a hash of the parts that can be hashed."""
    return hash((state.phase, state.sequence, state.totals, state.errors, state.anomalies))


@BRIEF
@given(history=histories(), trusted=st.booleans())
def test_every_state_is_made_of_declared_fields_and_can_be_shown(
    *, history: Events, trusted: bool
) -> None:
    state = BatchState(BATCH)
    for recorded in history:
        state = apply(state, recorded, trusted=trusted)
        assert list(vars(state)) == [field.name for field in fields(state)]
        assert replace(state) == state
        if state.started:
            assert batch_view(state).counts == state.counts


@BRIEF
@given(history=histories(), rng=st.randoms(use_true_random=False), trusted=st.booleans())
def test_no_order_of_delivery_makes_the_fold_raise(
    *, history: Events, rng: Random, trusted: bool
) -> None:
    rng.shuffle(history)
    state = BatchState(BATCH)
    for recorded in history:
        state = apply(state, recorded, trusted=trusted)
        outcomes(state)
