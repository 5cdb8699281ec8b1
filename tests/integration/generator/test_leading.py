"""What happens while nobody leads: the lead of a dead process is free, and time ends anyway."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from millstream.domain.batch_state import BatchState
from millstream.eventlog.answers import subscribed
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.presence import has_listener
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import WorkQueue, WorkSize
from millstream.testing.scripted_llm import Answer, Delayed, Ok, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream_generator.leadership import LEADER_KEY, Leadership
from millstream_schemas import control, subjects
from millstream_schemas.control import Budgets

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]

BOUND_S = 8.0
"""Less than a lead lasts."""


async def lead_as_ghost(site: Site) -> Bucket:
    """Leave an entry of a leader called ``ghost``."""
    await ensure_topology(site.log.connection, site.log.settings, takes_work=True)
    bucket = Bucket(site.log.event_log.answers, subjects.NODES_BUCKET)
    await bucket.put(LEADER_KEY, b"ghost")
    return bucket


@contextlib.asynccontextmanager
async def frozen(site: Site) -> AsyncIterator[None]:
    """Listen as ``ghost`` and do nothing."""

    async def hear(_: Msg) -> None:
        """Do nothing."""

    async with subscribed(site.log.connection, subjects.lead("ghost"), hear):
        await site.log.connection.flush()
        yield


async def ended_by(site: Site, batch_id: str, budget: str) -> BatchState:
    """Queue two slices, as a leader that froze after it would, and wait for the budget's stop."""
    queue = WorkQueue(site.log.event_log.answers)
    await queue.enqueue("default", "normal", batch_id, range(2), WorkSize(8, 64))
    state = await site.ended(batch_id, BOUND_S)
    (asked,) = await site.events(batch_id, control.BatchStopRequested)
    assert (state.state, asked.actor.id) == ("stopped", "budgets")
    assert asked.reason.startswith(budget)
    return state


async def test_the_lead_of_a_process_that_was_killed_is_taken_before_it_ages_out(
    direct_site: Site,
) -> None:
    site = direct_site
    bucket = await lead_as_ghost(site)
    async with ScriptedLLM(sample) as llm, site.generator("g1"):
        state = await site.ended(await site.begin(llm.base_url, 4), BOUND_S)
        entry = await bucket.get(LEADER_KEY)
    assert state.counts.generated == 4
    assert entry is not None
    assert entry.value == b"g1"


async def test_a_batchs_time_ends_though_the_leader_is_frozen(direct_site: Site) -> None:
    """Whoever holds a slice starts no call any more, writes the stop and closes the batch."""
    site = direct_site
    bucket = await lead_as_ghost(site)

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.05)

    async with ScriptedLLM(answer) as llm, frozen(site), site.generator("g1"):
        budgets = Budgets(max_duration_s=1.0)
        batch_id = await site.begin(llm.base_url, 1000, slice_size=64, budgets=budgets)
        state = await ended_by(site, batch_id, "budget_duration")
        entry = await bucket.get(LEADER_KEY)
    assert entry is not None
    assert entry.value == b"ghost"
    assert 0 < state.counts.generated < 1000


async def test_a_batchs_share_of_failures_ends_it_though_the_leader_is_frozen(
    direct_site: Site,
) -> None:
    site = direct_site
    bucket = await lead_as_ghost(site)

    def answer(request: Request) -> Answer:
        return Delayed(sample(request) if request.index % 2 else Ok("no JSON"), delay_s=0.2)

    async with ScriptedLLM(answer) as llm, frozen(site), site.generator("g1"):
        budgets = Budgets(max_failure_ratio=0.25)
        ways = [route(llm.base_url, provider="simulated")]
        batch_id = await site.begin(ways, 1000, slice_size=64, max_attempts=1, budgets=budgets)
        state = await ended_by(site, batch_id, "budget_failures")
        entry = await bucket.get(LEADER_KEY)
    assert entry is not None
    assert entry.value == b"ghost"
    assert 20 <= state.counts.generated + state.counts.failed < 1000


async def test_a_leader_that_leaves_is_heard_until_the_lead_is_free(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another takes the lead of a node that nobody hears, and this one takes it away again."""
    site, heard, leave = direct_site, [], Leadership.leave

    async def leave_heard(self: Leadership) -> None:
        heard.append(await has_listener(site.log.event_log.answers, subjects.lead("g1")))
        await leave(self)

    monkeypatch.setattr(Leadership, "leave", leave_heard)
    async with ScriptedLLM(sample) as llm, site.generator("g1"):
        await site.ended(await site.begin([route(llm.base_url, provider="simulated")], 4))
    bucket = Bucket(site.log.event_log.answers, subjects.NODES_BUCKET)
    assert (heard, await bucket.get(LEADER_KEY)) == ([True], None)
