"""The reserve of the store: who is let into it."""

import pytest

from millstream.errors import LogFullError
from millstream.eventlog.reserve import Fill, Reserve
from millstream.testing.events import Script
from millstream.testing.histories import FINDING
from millstream_schemas.envelope import Event

pytestmark = pytest.mark.anyio

MOST = 1000 * 2**20
KEPT = 50 * 2**20


class Store:
    """A store of which a reserve asks how full it is."""

    def __init__(self, used: int, most: int = MOST) -> None:
        self.fill = Fill(used, most)
        self.looks = 0
        self.reserve = Reserve(self.look)

    async def look(self) -> Fill:
        self.looks += 1
        self.reserve.note(self.fill)
        return self.fill

    async def takes(self, event: Event, size: int = 1000) -> bool:
        try:
            await self.reserve.admit(event, size)
        except LogFullError:
            return False
        return True


def history() -> dict[str, Event]:
    """One event of each kind that matters here, by the name of its class."""
    script = Script()
    script.start()
    script.claim(0)
    script.generate(0)
    script.detect_stuck(FINDING)
    script.pause()
    script.resume()
    script.stop()
    events = [entry.recorded.event for entry in script.tape.entries]
    return {type(event).__name__: event for event in events}


@pytest.mark.parametrize(
    ("left", "refused"),
    [
        (KEPT + 1000, set()),
        (KEPT + 999, {"BatchStarted", "BatchResumed"}),
        (KEPT // 2 + 999, {"BatchStarted", "BatchResumed", "StuckDetected"}),
        (0, {"BatchStarted", "BatchResumed", "StuckDetected"}),
    ],
)
async def test_what_makes_work_stays_out_of_the_reserve_notes_of_half_of_it_and_ends_of_nothing(
    left: int, refused: set[str]
) -> None:
    found = {name for name, event in history().items() if not await Store(MOST - left).takes(event)}
    assert found == refused


async def test_far_from_the_reserve_one_look_is_enough_and_near_it_each_start_looks() -> None:
    store, start = Store(0), history()["BatchStarted"]
    for _ in range(100):
        assert await store.takes(start)
    assert store.looks == 1
    store.fill = Fill(MOST - KEPT - 2000, MOST)
    store.reserve.note(store.fill)
    assert await store.takes(start)
    assert store.looks == 2


async def test_what_was_let_in_since_the_last_look_counts() -> None:
    store, start = Store(0), history()["BatchStarted"]
    assert await store.takes(start)
    store.fill = Fill(MOST - 1000, MOST)
    assert not await store.takes(start, MOST - KEPT)


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (2**20, 157_286),
        (2 * 2**20, 314_572),
        (10 * 2**20, 2**19),
        (MOST, KEPT),
        (10**12, 2 * 2**30),
    ],
)
def test_a_small_store_keeps_more_of_itself_but_never_much(most: int, kept: int) -> None:
    assert Fill(0, most).kept == kept


async def test_a_store_without_a_bound_takes_everything() -> None:
    assert await Store(10**15, most=0).takes(history()["BatchStarted"])
