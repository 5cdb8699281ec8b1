"""The pure steps of a slice, and the merge that the fold makes of what it reads."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import slice as steps
from millstream.domain import slice_merge
from millstream.domain.slice_merge import merge
from millstream.testing.histories import CATEGORIES, any_slice_state
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.slices import SliceState, Usage, bitmap, bits

BRIEF = settings(max_examples=100, deadline=None)
SIZES = st.integers(1, 6)
COUNTS = st.none() | st.integers(0, 1000)
USAGES = st.builds(Usage, tokens_in=COUNTS, tokens_out=COUNTS, cost_nano_usd=COUNTS)
RANDOMS = st.randoms(use_true_random=False)
LABELS = ("generated", "failed", "abandoned")


@st.composite
def sound(draw: st.DrawFn) -> tuple[SliceState, int]:
    """Draw a state that breaks no rule, and its slice's size."""
    size = draw(SIZES)
    state, _ = merge(SliceState(), any_slice_state(draw(RANDOMS)), size, may_abandon=True)
    return state, size


@st.composite
def open_slots(draw: st.DrawFn) -> tuple[SliceState, int, int]:
    """Draw a sound state, its slice's size and the offset of a slot without an outcome."""
    state, size = draw(sound())
    offset = draw(st.integers(0, size - 1))
    free = {name: bitmap(bits(getattr(state, name)) & ~(1 << offset)) for name in LABELS}
    return state.model_copy(update={**free, "closed": False}), size, offset


@given(st.integers(0, (1 << 64) - 1))
def test_a_bitmap_has_one_text(value: int) -> None:
    assert bits(bitmap(value)) == value
    assert SliceState(generated=bitmap(value)).generated == bitmap(value)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_bitmap_outside_64_bits_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="outside 64 bits"):
        bitmap(value)


@BRIEF
@given(sound())
def test_a_claim_fences_the_holder_before_and_touches_no_outcome(
    drawn: tuple[SliceState, int],
) -> None:
    state, size = drawn
    after = steps.claimed(state, "node-9")
    assert (after.epoch, after.node) == (state.epoch + 1, "node-9")
    assert after.barren_claims == state.barren_claims + 1
    assert steps.resolved(after) == steps.resolved(state)
    assert merge(state, after, size, may_abandon=False) == (after, 0)


@BRIEF
@given(drawn=sound(), at_risk=st.integers(0, 64), left=st.none() | st.integers(0, 9))
def test_a_rescue_counts_the_calls_that_its_holder_may_have_paid(
    drawn: tuple[SliceState, int], at_risk: int, left: int | None
) -> None:
    state = drawn[0].model_copy(update={"node": "node-1", "allowance": left})
    after = steps.claimed(state, "node-9", at_risk=at_risk, allowance=3)
    most = at_risk if left is None else min(at_risk, left)
    assert after.unconfirmed == state.unconfirmed + most
    assert after.allowance == 3
    again = steps.claimed(steps.released(state), "node-9", at_risk=at_risk)
    assert (again.unconfirmed, again.allowance) == (state.unconfirmed, None)


@BRIEF
@given(sound())
def test_a_slice_given_up_in_order_counts_no_barren_claim(drawn: tuple[SliceState, int]) -> None:
    state, size = drawn
    claimed = steps.claimed(state, "node-9")
    after = steps.released(claimed)
    assert (after.node, after.barren_claims) == ("", state.barren_claims)
    assert after.epoch == claimed.epoch
    assert merge(claimed, after, size, may_abandon=False) == (after, 0)


@BRIEF
@given(open_slots())
def test_a_slot_on_trial_is_off_it_with_its_outcome(drawn: tuple[SliceState, int, int]) -> None:
    state, size, offset = drawn
    tried = steps.on_trial(state, offset)
    error = ErrorInfo(category="server", message="boom")
    assert tried.on_trial == offset
    assert merge(state, tried, size, may_abandon=False) == (tried, 0)
    for after in (
        steps.with_outcome(tried, offset, "failed"),
        steps.with_failed_attempt(tried, offset, error, counts=True, rejected=False),
    ):
        assert after.on_trial is None


@BRIEF
@given(open_slots(), st.sampled_from(["generated", "failed"]))
def test_an_outcome_resolves_its_slot_and_no_other(
    drawn: tuple[SliceState, int, int], outcome: steps.Outcome
) -> None:
    state, size, offset = drawn
    after = steps.with_outcome(state, offset, outcome)
    assert steps.resolved(after) ^ steps.resolved(state) == 1 << offset
    assert bits(getattr(after, outcome)) >> offset & 1
    assert after.attempts == {at: n for at, n in state.attempts.items() if at != str(offset)}
    assert after.barren_claims == 0
    assert offset in steps.open_offsets(state, size)
    assert offset not in steps.open_offsets(after, size)
    assert merge(state, after, size, may_abandon=False) == (after, 0)


@BRIEF
@given(drawn=sound(), usage=USAGES, wasted=st.booleans())
def test_usage_is_added_and_an_unknown_price_stays_unknown(
    drawn: tuple[SliceState, int], usage: Usage, *, wasted: bool
) -> None:
    state, size = drawn
    after = steps.with_usage(state, usage, wasted=wasted)
    assert after.tokens_in - state.tokens_in == (usage.tokens_in or 0)
    assert after.tokens_out - state.tokens_out == (usage.tokens_out or 0)
    bounded = steps.with_usage(state.model_copy(update={"allowance": 2}), usage, wasted=wasted)
    left = None if state.allowance is None else max(0, state.allowance - 1)
    assert (after.allowance, bounded.allowance) == (left, 1)
    if usage.cost_nano_usd is None:
        assert after.cost_nano_usd == state.cost_nano_usd
        assert after.wasted_nano_usd == state.wasted_nano_usd
        assert (after.unpriced or 0) == (state.unpriced or 0) + usage.is_unpriced
    else:
        assert after.unpriced == state.unpriced
        assert after.cost_nano_usd == (state.cost_nano_usd or 0) + usage.cost_nano_usd
        lost = usage.cost_nano_usd if wasted else 0
        assert (after.wasted_nano_usd or 0) == (state.wasted_nano_usd or 0) + lost
    assert merge(state, after, size, may_abandon=False) == (after, 0)


@BRIEF
@given(
    drawn=open_slots(),
    category=st.sampled_from(CATEGORIES),
    counts=st.booleans(),
    rejected=st.booleans(),
)
def test_a_failed_attempt_leaves_the_slot_open_and_is_counted(
    drawn: tuple[SliceState, int, int], category: str, *, counts: bool, rejected: bool
) -> None:
    state, size, offset = drawn
    before = state.model_copy(deep=True)
    error = ErrorInfo.model_validate({"category": category, "message": "boom", "slot": offset})
    after = steps.with_failed_attempt(state, offset, error, counts=counts, rejected=rejected)
    key = str(offset)
    assert state == before, "a step changes no state but its own"
    assert after.attempts.get(key, 0) == state.attempts.get(key, 0) + counts
    assert after.rejected == state.rejected + rejected
    assert after.attempts_failed == state.attempts_failed + (not rejected)
    assert after.errors[error.category] == state.errors.get(error.category, 0) + 1
    assert after.last_error == error
    assert steps.resolved(after) == steps.resolved(state)
    assert merge(state, after, size, may_abandon=False) == (after, 0)


@BRIEF
@given(sound())
def test_closing_abandons_exactly_the_open_slots(drawn: tuple[SliceState, int]) -> None:
    state, size = drawn
    after = steps.closed(state, size)
    assert (after.generated, after.failed) == (state.generated, state.failed)
    fresh = bits(after.abandoned) & ~bits(state.abandoned)
    assert [at for at in range(size) if fresh >> at & 1] == steps.open_offsets(state, size)
    assert after.closed
    assert after.attempts == {}
    assert steps.is_done(after, size)
    assert steps.open_offsets(after, size) == []
    assert steps.closed(after, size) == after
    assert merge(state, after, size, may_abandon=True) == (after, 0)


@BRIEF
@given(sound())
def test_a_slice_is_done_when_closed_or_without_open_slots(drawn: tuple[SliceState, int]) -> None:
    state, size = drawn
    assert steps.is_done(state, size) == (state.closed or not steps.open_offsets(state, size))
    assert steps.full_mask(size).bit_count() == size


@BRIEF
@given(drawn=sound(), rng=RANDOMS, may_abandon=st.booleans())
def test_whatever_is_merged_the_first_outcome_stands_and_nothing_shrinks(
    drawn: tuple[SliceState, int], rng: Random, *, may_abandon: bool
) -> None:
    old, size = drawn
    new = any_slice_state(rng)
    merged, broken = merge(old, new, size, may_abandon=may_abandon)
    for name in LABELS:
        assert not bits(getattr(old, name)) & ~bits(getattr(merged, name))
    masks = [bits(getattr(merged, name)) for name in LABELS]
    assert sum(masks) == masks[0] | masks[1] | masks[2], "a slot has two outcomes"
    assert steps.resolved(merged) <= steps.full_mask(size)
    if not may_abandon:
        assert (merged.abandoned, merged.closed) == (old.abandoned, old.closed)
    for name in ("epoch", "tokens_in", "tokens_out", "rejected", "attempts_failed"):
        assert getattr(merged, name) == max(getattr(old, name), getattr(new, name))
    for name in ("cost_nano_usd", "wasted_nano_usd", "unpriced"):
        known = {getattr(old, name), getattr(new, name)} - {None}
        assert getattr(merged, name) == max(known, default=None)
    assert (broken == 0) == (merged == new)
    assert merge(merged, merged, size, may_abandon=False) == (merged, 0)


OLD = SliceState(
    epoch=2,
    generated="3",
    failed="4",
    abandoned="8",
    rejected=1,
    attempts_failed=2,
    tokens_in=10,
    tokens_out=20,
    cost_nano_usd=5,
    wasted_nano_usd=3,
    unpriced=2,
    errors={"server": 2},
)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1},
        {"generated": "1"},
        {"failed": "0"},
        {"abandoned": "0"},
        {"rejected": 0},
        {"attempts_failed": 1},
        {"tokens_in": 9},
        {"tokens_out": 19},
        {"cost_nano_usd": 4},
        {"cost_nano_usd": None},
        {"wasted_nano_usd": 2},
        {"wasted_nano_usd": None},
        {"unpriced": 1},
        {"unpriced": None},
        {"errors": {"server": 1}},
        {"errors": {}},
        {"generated": "7"},
        {"failed": "5"},
        {"generated": "43"},
        {"abandoned": "18"},
        {"closed": True},
    ],
    ids=str,
)
def test_one_broken_rule_is_noticed_and_changes_nothing(change: dict[str, object]) -> None:
    new = OLD.model_copy(update=change)
    assert merge(OLD, new, 6, may_abandon=False) == (OLD, 1)


def test_a_closed_slice_stays_closed() -> None:
    closed = OLD.model_copy(update={"closed": True})
    assert merge(closed, OLD, 6, may_abandon=True) == (closed, 1)


@BRIEF
@given(drawn=sound(), rng=RANDOMS, may_abandon=st.booleans())
def test_the_fast_path_of_a_merge_gives_what_the_careful_one_does(
    drawn: tuple[SliceState, int], rng: Random, *, may_abandon: bool
) -> None:
    old, size = drawn
    new = any_slice_state(rng)
    fast = merge(old, new, size, may_abandon=may_abandon)
    assert fast == slice_merge._salvaged(old, new, size, may_abandon=may_abandon)


def test_a_stop_counts_the_calls_that_only_a_silent_holder_can_have_in_flight() -> None:
    held = steps.claimed(SliceState(), "g1")
    assert steps.at_risk(held, 8, 3) == 3
    assert steps.at_risk(steps.released(held), 8, 3) == 0
    two_told = held.model_copy(update={"abandoned": "3"})
    assert steps.at_risk(two_told, 8, 3) == 1
    one_open = held.model_copy(update={"generated": "7f"})
    assert steps.at_risk(one_open, 8, 3) == 1
    assert steps.at_risk(held.model_copy(update={"allowance": 2}), 8, 3) == 2
    assert steps.at_risk(steps.on_trial(held, 4), 8, 3) == 1
    counted = held.model_copy(update={"in_flight": 1})
    assert steps.at_risk(counted, 8, 3) == 1
    assert steps.at_risk(counted.model_copy(update={"allowance": 0}), 8, 3) == 0
    assert steps.at_risk(steps.with_usage(counted, Usage(), wasted=True), 8, 3) == 0
    assert steps.at_risk(steps.on_trial(counted, 4), 8, 3) == 1
    assert steps.claimed(counted, "g2").in_flight is None
    ended = steps.closed(held, 8, at_risk=3)
    assert (ended.unconfirmed, ended.abandoned, ended.closed) == (3, "ff", True)
