"""Shares: classes of work are pulled 8 to 4 to 1, and none waits for an empty one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.weights import WEIGHTS, Shares
from millstream_schemas.subjects import PRIORITIES, Priority


def pull(shares: Shares, ready: set[Priority], total: int, room: int) -> Counter[Priority]:
    """Pull ``total`` slices of a slot, at most ``room`` at once; every ready class has enough."""
    pulled: Counter[Priority] = Counter()
    while (left := total - pulled.total()) > 0:
        priority, most = shares.next(ready)
        count = min(most, room, left)
        for _ in range(count):
            shares.pulled(priority, 1)
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
    pulled = pull(shares, ready, 40 * weight, 1)
    assert set(pulled) == ready
    for priority in ready:  # what was pulled before is made up for
        assert abs(pulled[priority] - 40 * WEIGHTS[priority]) <= 3 * len(before) + WEIGHTS[priority]


@given(st.sampled_from(PRIORITIES))
def test_a_class_alone_gets_everything(alone: Priority) -> None:
    assert pull(Shares(), {alone}, 50, 8) == {alone: 50}


def test_shares_are_of_slots_whatever_the_slices_of_a_class_hold() -> None:
    shares, held = Shares(), {"high": 1, "normal": 19, "low": 64}
    pulled: Counter[str] = Counter()
    while pulled.total() < 13_000:
        priority, most = shares.next(PRIORITIES)
        for _ in range(most):
            shares.pulled(priority, held[priority])
            pulled[priority] += held[priority]
    for priority, weight in WEIGHTS.items():
        assert abs(pulled[priority] - 1000 * weight) <= 128


def test_what_a_class_gets_while_the_other_lines_are_empty_for_a_moment_is_part_of_its_share() -> (
    None
):
    shares = Shares()
    pulled: Counter[str] = Counter()
    for look in range(1300):
        priority, _ = shares.next(["low"] if look % 13 == 0 else PRIORITIES)
        shares.pulled(priority, 64)
        pulled[priority] += 1
    for priority, weight in WEIGHTS.items():
        assert abs(pulled[priority] - 100 * weight) <= weight


def test_slices_held_from_before_are_made_up_for_but_not_without_end() -> None:
    shares = Shares()
    pull(shares, {"low"}, 10_000, 8)
    pulled = pull(shares, set(PRIORITIES), 8000, 1)
    assert pulled["high"] > pulled["normal"] > pulled["low"] > 400
