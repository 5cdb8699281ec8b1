"""What an ended batch left: which child it may have, and of which cells."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import allowed
from millstream.domain.plan import ChoiceError, Plan
from millstream.domain.refill import (
    check_refill,
    child_started,
    is_whole,
    quotas_left,
    slots_to_refill,
)
from millstream.runtime.clock import new_seed
from millstream.specs import slice_size_of
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.journal import CHILD
from millstream_schemas.commands import RefillKind
from millstream_schemas.control import BatchSpec, CellQuota
from millstream_schemas.recipes import Cell

KINDS: tuple[RefillKind, ...] = ("retry_failed", "continue")
SIZES = st.integers(1, 9)
BRIEF = settings(max_examples=60, deadline=None)

Slots = dict[int, str]
"""Slot -> generated or failed; what is missing was abandoned or never claimed."""


def ended(rng: Random, spec: BatchSpec) -> tuple[Script, Slots]:
    """Return a batch that ended somehow, and what became of its slots."""
    script = Script(spec=spec)
    script.start()
    slots: Slots = {}
    for index in range(spec.slices):
        if rng.random() < 0.8:
            script.claim(index)
            for slot in spec.slots(index):
                fate = rng.choice(["generated", "generated", "failed", ""])
                if fate == "generated":
                    script.generate(slot)
                elif fate:
                    script.fail(slot)
                if fate:
                    slots[slot] = fate
    if len(slots) == spec.target:
        script.complete()
    else:
        script.stop()
    return script, slots


def cells(spec: BatchSpec, slots: range | list[int]) -> Counter[Cell]:
    """Return how many of ``slots`` each cell of the batch's plan has."""
    plan = Plan(spec)
    return Counter(plan.cell(slot) for slot in slots)


def child_of(spec: BatchSpec, quotas: tuple[CellQuota, ...]) -> BatchSpec:
    """Return the spec of the child that fills ``quotas``."""
    target = sum(quota.count for quota in quotas)
    changed = {"target": target, "seed": new_seed(), "slice_size": slice_size_of(target)}
    return spec.model_copy(update={**changed, "quotas": quotas})


@BRIEF
@given(st.randoms(use_true_random=False), st.integers(1, 150), SIZES, st.sampled_from(KINDS))
def test_a_child_refills_exactly_the_cells_that_its_parent_left(
    rng: Random, target: int, size: int, kind: RefillKind
) -> None:
    """And a child of that child the cells that this one left, and so on to the last slot."""
    spec = example_spec(target, slice_size=size)
    for _ in range(3):
        script, slots = ended(rng, spec)
        wanted = [slot for slot, fate in slots.items() if fate == "failed"]
        if kind == "continue":
            wanted = [slot for slot in range(spec.target) if slots.get(slot) != "generated"]
        assert slots_to_refill(script.state, kind) == len(wanted)
        if not wanted:
            return
        quotas = quotas_left(script.state, kind)
        child = child_of(spec, quotas)
        left = cells(spec, wanted)
        assert cells(child, range(child.target)) == left
        if kind == "continue":
            made = cells(spec, [slot for slot, fate in slots.items() if fate == "generated"])
            assert made + left == cells(spec, range(spec.target))
        spec = child


@BRIEF
@given(st.randoms(use_true_random=False), st.integers(1, 150), SIZES)
def test_a_retry_and_the_child_after_it_share_the_slots_that_were_left(
    rng: Random, target: int, size: int
) -> None:
    """Whatever the batch left is made once: what failed by the retry, the rest by the other."""
    script, slots = ended(rng, example_spec(target, slice_size=size))
    made = [slot for slot, fate in slots.items() if fate == "generated"]
    failed = script.state.counts.failed
    retry = quotas_left(script.state, "retry_failed") if failed else ()
    if failed:
        script.note_child(kind="retry_failed", slots=failed)
    rest = slots_to_refill(script.state, "continue")
    assert rest == target - len(made) - failed
    refusal = check_refill(script.state, "continue")
    assert (refusal is None) is (rest > 0) is ("continue" in allowed(script.state))
    parts = cells(script.spec, made)
    if failed:
        parts += cells(child_of(script.spec, retry), range(failed))
    if rest:
        child = child_of(script.spec, quotas_left(script.state, "continue"))
        parts += cells(child, range(rest))
    assert parts == cells(script.spec, range(target))


def test_the_cells_of_a_child_keep_to_the_parents_choices() -> None:
    spec = example_spec(20, slice_size=4, topic="Law - Torts", difficulty="basic")
    script = Script(spec=spec)
    script.start()
    script.claim(0)
    script.generate(0)
    script.stop()
    child = child_of(spec, quotas_left(script.state, "continue"))
    plan = Plan(child)
    assert {(plan.cell(slot).topic, plan.cell(slot).difficulty) for slot in range(19)} == {
        ("Torts", "basic")
    }


@pytest.mark.parametrize(
    ("quotas", "words"),
    [
        ([(0, 3)], "quotas add up to 3 slots, not to the target of 4"),
        ([(0, 3), (8, 1)], "quotas name cell 8, but the recipe and the choices make 8 cells"),
    ],
)
def test_quotas_that_fit_no_plan_are_refused(quotas: list[tuple[int, int]], words: str) -> None:
    given_quotas = tuple(CellQuota(cell=cell, count=count) for cell, count in quotas)
    with pytest.raises(ChoiceError, match=words):
        Plan(example_spec(4, quotas=given_quotas))


def in_state(name: str) -> BatchState:
    """Return a batch of two samples in a state."""
    script = Script(spec=example_spec(2, slice_size=1))
    if name == "unknown":
        return script.state
    script.start()
    match name:
        case "completed" | "whole" | "continued" | "retried":
            for slot in (0, 1):
                script.claim(slot)
                script.generate(slot) if slot or name == "whole" else script.fail(slot)
            script.complete()
            if name in ("continued", "retried"):
                script.note_child(kind="continue" if name == "continued" else "retry_failed")
        case "stopping":
            script.request_stop()
        case "stopped":
            script.stop()
    return script.state


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        *(("unknown", kind, "not_found") for kind in KINDS),
        *(("queued", kind, "invalid_transition") for kind in KINDS),
        *(("stopping", kind, "invalid_transition") for kind in KINDS),
        *(("completed", kind, None) for kind in KINDS),
        *(("whole", kind, "nothing_to_retry") for kind in KINDS),
        *(("continued", kind, "already_continued") for kind in KINDS),
        *(("retried", kind, "already_continued") for kind in KINDS),
        ("stopped", "retry_failed", "nothing_to_retry"),
        ("stopped", "continue", None),
    ],
)
def test_only_an_ended_batch_has_a_child_and_one_only_of_what_it_left(
    name: str, kind: RefillKind, code: str | None
) -> None:
    state = in_state(name)
    refusal = check_refill(state, kind)
    command = kind.replace("_", "-")
    if code is None:
        assert refusal is None
        assert command in allowed(state)
        return
    assert refusal is not None
    assert (refusal.code, refusal.allowed) == (code, allowed(state))
    assert command not in refusal.allowed
    assert refusal.child_id == (CHILD if code == "already_continued" else None)
    assert state.batch_id in refusal.message


def test_the_first_note_of_a_child_counts() -> None:
    script = Script(spec=example_spec(2, slice_size=1))
    script.start()
    script.stop()
    stamp = script._stamp(script.user)  # the script's own clock and ids
    note = child_started(script.state, CHILD, "continue", stamp)
    assert (note.slots, note.subject) == (2, f"mill.events.{script.batch_id}.note")
    script.record(note)
    for kind in KINDS:
        script.note_child("batch_1767225600_0000beef", kind=kind)
    assert (script.state.child, script.state.retry) == (note, None)


def test_a_fold_that_lacks_a_slice_of_an_ended_batch_is_known_as_such() -> None:
    script = Script(spec=example_spec(4, slice_size=2)).run()
    assert is_whole(script.state)
    tail = BatchState(script.batch_id)
    for recorded in script.tape.recorded:
        if getattr(recorded.event, "slice", 0) == 0:
            tail = apply(tail, recorded, trusted=True)
    assert tail.is_final
    assert not is_whole(tail)
