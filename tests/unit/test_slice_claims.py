"""Which claims of a slice were barren: those at which nodes died, or work broke off."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import slice as steps
from millstream.domain.slice_merge import merge
from millstream.testing.histories import any_slice_state
from millstream_schemas.slices import SliceState

BRIEF = settings(max_examples=100, deadline=None)
SIZE = 6


def sound() -> st.SearchStrategy[SliceState]:
    """Draw a state that breaks no rule."""
    drawn = st.randoms(use_true_random=False).map(any_slice_state)
    return drawn.map(lambda state: merge(SliceState(), state, SIZE, may_abandon=True)[0])


@BRIEF
@given(state=sound(), lived=st.lists(st.booleans(), max_size=8))
def test_only_claims_whose_holders_died_are_barren(state: SliceState, lived: list[bool]) -> None:
    """However often an outage takes the lease of nodes that live, no slot is suspected for it."""
    start = after = steps.claimed(state.model_copy(update={"barren_claims": 0}), "node-1")
    for holder_lives in lived:
        before, after = after, steps.claimed(after, "node-9", holder_lives=holder_lives)
        assert merge(before, after, SIZE, may_abandon=False) == (after, 0)
    assert after.barren_claims == 1 + lived.count(False)
    assert after.epoch == start.epoch + len(lived)


@BRIEF
@given(state=sound(), offset=st.integers(0, SIZE - 1))
def test_a_slot_that_ran_alone_is_blamed_only_for_a_death(state: SliceState, offset: int) -> None:
    tried = steps.on_trial(steps.claimed(state, "node-1"), offset)
    assert steps.claimed(tried, "node-9").on_trial == offset
    assert steps.claimed(tried, "node-9", holder_lives=True).on_trial is None


@BRIEF
@given(sound())
def test_work_that_broke_off_is_barren_though_its_node_lives(
    state: SliceState,
) -> None:
    claimed = steps.claimed(state, "node-1", allowance=3)
    after = steps.dropped(claimed)
    assert (after.node, after.allowance) == ("", None)
    assert (after.barren_claims, after.on_trial) == (claimed.barren_claims, claimed.on_trial)
    assert merge(claimed, after, SIZE, may_abandon=False) == (after, 0)
