"""Ledgers of budgets: what is granted again while nobody knows whether the holder is dead."""

import pytest

from millstream.domain import budget
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.budget import CallBound, Grant
from millstream.eventlog.buckets import Bucket
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.site import Site
from millstream_generator.grants import Ledgers, Purse
from millstream_schemas import subjects
from millstream_schemas.control import Budgets

pytestmark = pytest.mark.anyio

BOUND = CallBound(tokens=100, cost_nano_usd=1_000)
MOST, SLOTS = 72, 64


class Granted:
    """A batch of one slice with a budget of 72 calls, and what its dispatcher grants."""

    def __init__(self, site: Site) -> None:
        budgets = Budgets(max_attempts=MOST)
        spec = example_spec(SLOTS, slice_size=SLOTS, max_attempts=10, budgets=budgets)
        self.script = Script(spec=spec)
        self.script.start()
        self.ledgers = Ledgers(site.log.event_log.answers)
        self.purse = Purse(self.ledgers, BOUND)

    @property
    def state(self) -> BatchState:
        state = BatchState(self.script.batch_id)
        for recorded in self.script.tape.recorded:
            state = apply(state, recorded)
        return state

    @property
    def as_of(self) -> int:
        return len(self.script.tape.entries)

    async def allot(self, *wanted: int) -> list[int]:
        return await self.purse.allot(self.state, self.as_of, wanted)

    async def grant(self) -> Grant | None:
        """Return what a claim that is made now may use."""
        grant = await self.ledgers.granted(self.script.batch_id, 0)
        found = self.state.slices.get(0)
        epoch, sequence = (found.state.epoch, found.sequence) if found is not None else (0, 0)
        return grant if grant is not None and grant.is_for(epoch, sequence) else None

    async def claim(self) -> None:
        grant = await self.grant()
        assert grant is not None
        self.script.claim(0, allowance=grant.calls)

    def use(self, calls: int) -> None:
        for slot in range(calls):
            self.script.reject(slot % 32)


async def test_a_holder_that_comes_back_leaves_nothing_of_its_budget_to_a_successor(
    site: Site,
) -> None:
    batch = Granted(site)
    assert await batch.allot(0) == [0]
    await batch.claim()
    batch.use(10)
    batch.script.announce_calls(0, 1)
    batch.purse.dead = {0: 1}  # its beat has aged out
    assert await batch.allot() == [0]
    granted = await batch.grant()
    assert granted is not None
    assert (granted.calls, granted.at_risk) == (61, 1)
    assert batch.purse.reserved(batch.state) == 62
    batch.purse.dead = {}
    batch.use(1)  # it lives
    assert await batch.grant() is None
    batch.use(MOST - 11)
    batch.script.release(0, "the granted calls are used up")
    assert await batch.allot(0) == []
    assert await batch.grant() is None
    assert batch.purse.is_spent(batch.state, batch.as_of)


async def test_what_a_dead_holder_leaves_of_its_budget_is_its_successors(site: Site) -> None:
    batch = Granted(site)
    await batch.allot(0)
    await batch.claim()
    batch.use(10)
    batch.script.announce_calls(0, 1)
    batch.purse.dead = {0: 1}
    await batch.allot()
    assert not batch.purse.is_spent(batch.state, batch.as_of)
    grant = await batch.grant()
    assert grant is not None
    batch.script.claim(0, at_risk=1, allowance=grant.calls)
    batch.use(grant.calls)
    batch.script.release(0)
    assert await batch.allot(0) == []
    assert batch.purse.is_spent(batch.state, batch.as_of)
    assert batch.state.totals.rejected == MOST - 1  # the one in flight may have been made


async def test_what_a_holder_that_seems_dead_may_start_is_nobodys_before_it_is_fenced(
    site: Site,
) -> None:
    """Its successor needs less, since few slots are open; the rest is for no other slice yet."""
    batch = Granted(site)
    await batch.allot(0)
    await batch.claim()
    for slot in range(32):
        batch.script.generate(slot)
    batch.script.announce_calls(0, 1)
    batch.purse.dead = {0: 1}
    await batch.allot()
    grant = await batch.grant()
    assert grant is not None
    assert (grant.calls, grant.at_risk, batch.purse.reserved(batch.state)) == (36, 1, 40)
    batch.script.claim(0, at_risk=1, allowance=grant.calls)
    assert batch.purse.reserved(batch.state) == 36


async def test_a_ledger_of_a_version_that_knew_no_last_events_is_read(site: Site) -> None:
    answers = site.log.event_log.answers
    await Bucket(answers, subjects.LIMITS_BUCKET).put(
        "budget.batch", b'{"as_of": 7, "grants": {"3": [2, 10, 1]}}', expected=0
    )
    ledgers = Ledgers(answers)
    assert await ledgers.granted("batch", 3) == Grant(epoch=2, calls=10, at_risk=1)
    ledger = await ledgers.read("batch")
    assert ledger is not None
    ledger.grants[4] = Grant(2, 10, 1, tail=5)
    await ledgers.write("batch", ledger)
    assert await ledgers.read("batch") == ledger


async def test_a_lost_ledger_is_made_anew_from_what_the_slices_tell() -> None:
    script = Script(spec=example_spec(8, slice_size=4, budgets=Budgets(max_attempts=9)))
    script.start()
    script.claim(0, allowance=5)
    script.generate(0)
    script.claim(1, allowance=4)
    script.release(1)
    state = BatchState(script.batch_id)
    for recorded in script.tape.recorded:
        state = apply(state, recorded)
    assert budget.adopted(state) == {0: Grant(epoch=1, calls=4)}
