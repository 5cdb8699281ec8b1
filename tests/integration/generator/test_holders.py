"""Who holds a slice: told by the beat under the holder's name, and by which start of it beats."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from millstream.domain.batch_state import BatchState
from millstream.eventlog import presence
from millstream.eventlog.nodes import Nodes, keep_beating
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import WorkQueue, WorkSize
from millstream.runtime.clock import new_id
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator.holders import Holders
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat
from millstream_schemas.control import Budgets
from millstream_schemas.envelope import Actor
from millstream_schemas.slices import SliceClaimed, SliceState

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]

CLAIMED = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE = CLAIMED - timedelta(minutes=1)
AFTER = CLAIMED + timedelta(seconds=5)
NEVER_S = 600.0
"""A lease so long that nobody who lives counts as silent."""


def ghost(started_at: datetime) -> NodeBeat:
    """Return a beat of the process that was started then under the name ``ghost``."""
    return NodeBeat(node="ghost", service="generator", started_at=started_at)


async def beat(site: Site, started_at: datetime) -> None:
    """Let that process beat once."""
    await Nodes(site.log.event_log.answers).beat(ghost(started_at))


async def claim(site: Site, batch_id: str, time: datetime = CLAIMED, epoch: int = 1) -> BatchState:
    """Claim slice 0 as ``ghost``, with grants for all of its calls; return the batch."""
    subject = subjects.slice_(batch_id, 0)
    last = await site.log.event_log.last(subject)
    event = SliceClaimed(
        id=new_id(),
        source="millstream/generator/ghost",
        subject=subject,
        time=time,
        actor=Actor(kind="node", id="ghost"),
        causation_id=batch_id,
        batch_id=batch_id,
        slice=0,
        after=SliceState(epoch=epoch, node="ghost", allowance=3, barren_claims=1),
    )
    await site.log.event_log.append(event, expected=last.sequence if last else 0)
    return await site.state(batch_id)


class Round:
    """Looks at slice 0 in one round after the other."""

    def __init__(self, site: Site, lease_s: float = NEVER_S) -> None:
        self._holders = Holders(site.log.event_log, lease_s)

    async def is_dead(self, state: BatchState) -> bool:
        self._holders.begin_round()
        return await self._holders.dead(state, [0]) == [0]

    async def is_abandoned(self, state: BatchState) -> bool:
        self._holders.begin_round()
        return await self._holders.abandoned(state, [0]) == [0]


async def test_one_that_comes_back_under_its_name_has_died_though_it_was_seen_alive(
    site: Site,
) -> None:
    looks = Round(site)
    state = await claim(site, await site.begin("http://nowhere"))
    await beat(site, BEFORE)
    assert [await looks.is_dead(state) for _ in range(3)] == [False] * 3
    await beat(site, AFTER)
    assert [await looks.is_dead(state) for _ in range(3)] == [True] * 3
    # What it claims from then on is held by the process that beats now.
    state = await claim(site, state.batch_id, AFTER + timedelta(seconds=1), epoch=2)
    assert [await looks.is_dead(state) for _ in range(3)] == [False] * 3


async def test_one_that_was_frozen_until_its_beat_had_gone_holds_again_when_it_wakes(
    site: Site,
) -> None:
    looks = Round(site)
    state = await claim(site, await site.begin("http://nowhere"))
    await beat(site, BEFORE)
    assert not await looks.is_dead(state)
    await Nodes(site.log.event_log.answers).leave("generator", "ghost")
    assert await looks.is_dead(state)
    await beat(site, BEFORE)
    assert not await looks.is_dead(state)


async def test_of_two_processes_under_one_name_the_one_that_writes_on_never_seems_dead(
    site: Site,
) -> None:
    """Their beats take turns; what the first wrote after the second's start speaks for it."""
    looks = Round(site)
    state = await claim(site, await site.begin("http://nowhere"), AFTER + timedelta(seconds=1))
    for started_at in (BEFORE, AFTER) * 2:
        await beat(site, started_at)
        assert not await looks.is_dead(state)


async def test_a_name_that_moves_to_a_machine_whose_clock_is_behind_is_silent_in_the_end(
    site: Site,
) -> None:
    """It seems to be the process before, which lives: what it never takes up was dropped."""
    looks = Round(site, lease_s=0.1)
    state = await claim(site, await site.begin([route("http://nowhere", timeout_s=1.0)]))
    await beat(site, BEFORE)
    assert not await looks.is_abandoned(state)
    await beat(site, BEFORE - timedelta(hours=1))
    assert not await looks.is_abandoned(state)
    async with asyncio.timeout(BOUND_S):
        while not await looks.is_abandoned(state):
            await beat(site, BEFORE - timedelta(hours=1))


BUDGETS = Budgets(max_attempts=1000)


async def work_message(site: Site, batch_id: str) -> None:
    """Queue slice 0, as its message is that of a node which was killed."""
    await ensure_topology(site.log.connection, site.log.settings, takes_work=True)
    queue = WorkQueue(site.log.event_log.answers)
    await queue.enqueue("default", "normal", batch_id, [0], WorkSize(1, 2))


@contextlib.asynccontextmanager
async def beating(site: Site) -> AsyncIterator[Callable[[datetime], None]]:
    """Keep ``ghost`` beating; what is given lets another start of it beat from then on."""
    started_at, stop = BEFORE, asyncio.Event()

    def start_anew(at: datetime) -> None:
        nonlocal started_at
        started_at = at

    async with asyncio.TaskGroup() as tasks:
        nodes = Nodes(site.log.event_log.answers)
        tasks.create_task(keep_beating(nodes, stop, lambda: ghost(started_at)))
        yield start_anew
        stop.set()


async def test_what_a_node_held_before_it_was_started_anew_is_done_within_a_budget_too(
    site: Site,
) -> None:
    """The dispatcher has seen the holder alive for as long as the rest of the batch took."""
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin(llm.base_url, 20, budgets=BUDGETS)
        await claim(site, batch_id)
        async with beating(site) as start_anew, site.generator():
            await site.reach(batch_id, lambda state: state.counts.generated == 18)
            start_anew(AFTER)
            state = await site.ended(batch_id)
        claims = await site.events(batch_id, SliceClaimed)
    assert (state.state, state.counts.generated, state.counts.failed) == ("completed", 20, 0)
    assert [event.slice for event in claims if event.rescue_of == "ghost"] == [0]


async def test_what_a_living_node_dropped_and_the_queue_lost_is_done_within_a_budget_too(
    site: Site,
) -> None:
    async with ScriptedLLM(sample) as llm:
        ways = [route(llm.base_url, timeout_s=1.0)]
        batch_id = await site.begin(ways, 20, budgets=BUDGETS)
        await claim(site, batch_id)
        async with beating(site), site.generator():
            state = await site.ended(batch_id)
        claims = await site.events(batch_id, SliceClaimed)
    assert (state.state, state.counts.generated) == ("completed", 20)
    assert [event.slice for event in claims if event.rescue_of == "ghost"] == [0]


async def test_what_a_dead_node_was_granted_is_granted_again_while_the_thorough_round_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it comes while the server takes long over what the queue holds."""
    look, looks, is_over = WorkQueue.all_queued, 0, asyncio.Event()

    async def slow(self: WorkQueue) -> dict[str, set[int]]:
        nonlocal looks
        looks += 1
        if looks > 1:
            await is_over.wait()
        return await look(self)

    monkeypatch.setattr(WorkQueue, "all_queued", slow)
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin(llm.base_url, 20, budgets=BUDGETS)
        await claim(site, batch_id)
        await work_message(site, batch_id)
        async with beating(site) as start_anew, site.generator():
            await site.reach(batch_id, lambda state: state.counts.generated == 18)
            start_anew(AFTER)
            state = await site.ended(batch_id)
            is_over.set()
        claims = await site.events(batch_id, SliceClaimed)
    assert (state.state, state.counts.generated, looks) == ("completed", 20, 2)
    assert [event.slice for event in claims if event.rescue_of == "ghost"] == [0]


async def test_slices_may_be_claimed_while_the_dispatcher_looks_at_another_batch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at the first batch ends when a further slice of the second one was claimed."""
    look, has_waited = Holders.dead, False

    async def slow(self: Holders, state: BatchState, indices: Iterable[int]) -> list[int]:
        nonlocal has_waited
        if state.batch_id == first and not has_waited:
            known = len((await site.state(second)).slices)
            await site.reach(second, lambda state: len(state.slices) > known)
            has_waited = True
        return await look(self, state, indices)

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.1)

    monkeypatch.setattr(Holders, "dead", slow)
    monkeypatch.setattr(presence, "SETTLE_S", 0.0)
    async with ScriptedLLM(answer) as llm:
        first, second = [
            await site.begin(llm.base_url, 60, slice_size=1, concurrency=4, budgets=BUDGETS)
            for _ in range(2)
        ]
        async with site.generator():
            for batch_id in (first, second):
                assert (await site.ended(batch_id)).counts.generated == 60
    assert has_waited
