"""Shares: classes of work are pulled 8 to 4 to 1, and none waits for an empty one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.weights import WEIGHTS, Shares
from millstream_schemas.subjects import PRIORITIES, Priority


def pull(shares: Shares, ready: set[Priority], total: int, room: int) -> Counter[Priority]:
    """Pull ``total`` slices, at most ``room`` at once; every ready class has enough."""
    pulled: Counter[Priority] = Counter()
    while (left := total - pulled.total()) > 0:
        priority, most = shares.next(ready)
        count = min(most, room, left)
        shares.pulled(priority, count)
        pulled[priority] += count
    return pulled


@given(room=st.integers(1, 20), rounds=st.integers(1, 20))
def test_full_classes_share_eight_to_four_to_one(room: int, rounds: int) -> None:
    pulled = pull(Shares(), set(PRIORITIES), 13 * rounds, room)
    assert pulled == {priority: weight * rounds for priority, weight in WEIGHTS.items()}


@given(
    ready=st.sets(st.sampled_from(PRIORITIES), min_size=1),
    before=st.lists(st.sets(st.sampled_from(PRIORITIES), min_size=1), max_size=10),
)
def test_any_classes_that_have_work_share_by_their_weights_and_none_starves(
    ready: set[Priority], before: list[set[Priority]]
) -> None:
    shares = Shares()
    for earlier in before:
        pull(shares, earlier, 3, 2)
    weight = sum(WEIGHTS[priority] for priority in ready)
    pulled = pull(shares, ready, 10 * weight, 1)
    assert set(pulled) == ready
    for priority in ready:
        assert abs(pulled[priority] - 10 * WEIGHTS[priority]) <= WEIGHTS[priority]


@given(st.sampled_from(PRIORITIES))
def test_a_class_alone_gets_everything(alone: Priority) -> None:
    assert pull(Shares(), {alone}, 50, 8) == {alone: 50}
