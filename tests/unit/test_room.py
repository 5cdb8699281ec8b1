"""Room: whose slices a node begins though all its calls are taken."""

import pytest

from millstream_generator.room import Room, Workers
from millstream_schemas.subjects import PRIORITIES, WorkSubject

CALLS = 256


def of(priority: str, batch: str = "batch") -> WorkSubject:
    return WorkSubject("default", priority, f"{batch}-{priority}", 0)


def let_in(room: Room, work: WorkSubject, workers: int) -> int:
    """Begin slices of a batch as long as they are owed to it; return how many workers it got."""
    count = 0
    while room.owes(work, workers):
        Workers(room, work, workers)
        count += workers
    return count


def test_a_full_node_lets_classes_in_by_their_weights() -> None:
    room = Room(CALLS)
    Workers(room, of("low"), CALLS)
    Workers(room, of("normal"), 1)
    Workers(room, of("high"), 1)
    found = {priority: let_in(room, of(priority), 1) for priority in PRIORITIES}
    assert found == {"high": 158 - 1, "normal": 79 - 1, "low": 0}


def test_a_long_slice_that_exceeds_its_class_s_share_waits_for_its_turn() -> None:
    room = Room(CALLS)
    Workers(room, of("high"), CALLS)
    assert room.owes(of("normal"), 38)
    Workers(room, of("normal"), 38)
    assert not room.owes(of("low"), 38)
    assert room.owes(of("low"), CALLS // 13)


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("other", PRIORITIES)
def test_a_small_batch_beside_three_large_ones_comes_in_whatever_the_classes(
    priority: str, other: str
) -> None:
    room = Room(CALLS)
    for batch in ("first", "second", "third"):
        Workers(room, of(other, batch), 100)
    assert let_in(room, of(priority, "small"), 1) >= 10


def test_batches_of_a_class_share_its_part_equally() -> None:
    room = Room(CALLS)
    Workers(room, of("high"), CALLS)
    works = [of("normal", batch) for batch in ("first", "second")]
    for work in works:
        Workers(room, work, 1)
    found = [let_in(room, work, 1) + 1 for work in works]
    assert found == [CALLS * 4 // 12 // 2] * 2


@pytest.mark.parametrize(("calls", "beside_high"), [(1, 0), (4, 0), (8, 1), (16, 2)])
def test_shares_are_whole_calls_and_one_that_is_none_waits_for_its_turn(
    calls: int, beside_high: int
) -> None:
    room = Room(calls)
    Workers(room, of("high"), calls)
    assert let_in(room, of("low"), 1) == beside_high


def test_a_class_that_has_ended_leaves_its_share_to_the_others() -> None:
    room = Room(CALLS)
    first = Workers(room, of("high"), CALLS)
    Workers(room, of("low"), CALLS // 13)
    assert not room.owes(of("low"), CALLS // 2)
    first.close()
    assert room.owes(of("low"), CALLS // 2)
