"""Budgets of real batches: the model's own server counts what it was asked for."""

import asyncio
from pathlib import Path

import orjson
import pytest

from millstream.call_bounds import call_bound
from millstream.domain.plan import attempt_seed
from millstream.openai_wire import Usage
from millstream.testing.examples import example_spec
from millstream.testing.nats import running_log
from millstream.testing.scripted_llm import (
    Answer,
    Delayed,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    ScriptedLLM,
)
from millstream.testing.service_process import ServiceProcess
from millstream.testing.site import Site, route, sample
from millstream_schemas import notes
from millstream_schemas.control import BatchSpec, Budgets
from millstream_schemas.routes import Price, Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]

PRICE = Price(input_nano_usd_per_1k=1_000_000, output_nano_usd_per_1k=4_000_000)
USED = Usage(2_000, 600)
COST = PRICE.cost_nano_usd(USED.prompt_tokens, USED.completion_tokens)


def priced(base_url: str) -> list[Route]:
    return [route(base_url, price=PRICE)]


def costly(request: Request) -> Ok:
    """Return an answer near to the longest and dearest that there can be."""
    return Ok(sample(request).content, usage=USED)


async def spec_for(target: int, calls: int, **fields: object) -> BatchSpec:
    """Return a spec whose cost budget covers ``calls`` calls of the dearest kind."""
    spec = example_spec(target, slice_size=4, **fields)
    bound = call_bound(spec.model_copy(update={"routes": tuple(priced("http://x"))}))
    assert bound.cost_nano_usd is not None
    assert COST <= bound.cost_nano_usd <= 2 * COST
    budgets = Budgets(max_cost_nano_usd=calls * bound.cost_nano_usd)
    return spec.model_copy(update={"budgets": budgets})


async def test_a_cost_budget_ends_the_batch_before_it_is_overdrawn(site: Site) -> None:
    async with ScriptedLLM(costly) as llm, site.generator():
        spec = await spec_for(200, 30)
        batch_id = await site.begin(priced(llm.base_url), spec=spec)
        state = await site.ended(batch_id)
        warned = await site.events(batch_id, notes.BudgetWarned)
    most = spec.budgets.max_cost_nano_usd or 0
    assert state.state == "stopped"
    assert state.stop is not None
    assert state.stop.event.reason.startswith("budget_cost: $")
    assert state.stop.event.actor.kind == "system"
    assert 30 <= state.counts.generated == len(llm.requests)
    assert most * 0.8 < len(llm.requests) * COST <= most
    assert state.counts.cost_nano_usd == len(llm.requests) * COST
    assert [(event.budget, event.used >= 0.8) for event in warned] == [("cost", True)]
    assert state.budgets_warned == ("cost",)


async def test_a_call_that_broke_off_counts_in_full_and_a_refused_one_does_not(
    direct_site: Site,
) -> None:
    """The provider may bill what it read and wrote before; of a refused call it bills nothing."""
    others = {1: Disconnect(after_chunks=2), 2: Garbage(), 3: HttpError(503)}

    def answer(request: Request) -> Answer:
        return others.get(request.index % 9) or costly(request)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        spec = await spec_for(200, 30)
        batch_id = await direct_site.begin(priced(llm.base_url), spec=spec)
        state = await direct_site.ended(batch_id)
    kinds = [request.index % 9 for request in llm.requests]
    broken = kinds.count(1) + kinds.count(2)
    assert state.state == "stopped"
    assert state.counts.unconfirmed_calls == broken > 0
    assert state.counts.attempts_failed == broken + kinds.count(3)
    paid = (len(llm.requests) - kinds.count(3)) * COST
    assert (spec.budgets.max_cost_nano_usd or 0) * 0.5 < paid
    assert paid <= (spec.budgets.max_cost_nano_usd or 0)


async def test_an_answer_without_its_use_is_one_call_where_calls_are_bounded(
    direct_site: Site,
) -> None:
    def untold(request: Request) -> Answer:
        delta = {"content": orjson.dumps(sample(request).content).decode()}
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
        return Garbage(b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps(chunk))

    async with ScriptedLLM(untold) as llm, direct_site.generator():
        batch_id = await direct_site.begin(llm.base_url, 100, budgets=Budgets(max_attempts=12))
        state = await direct_site.ended(batch_id)
    assert (state.state, state.counts.generated, len(llm.requests)) == ("stopped", 12, 12)
    assert state.counts.unconfirmed_calls == 0


async def test_two_dispatchers_and_three_nodes_stay_within_the_budget(site: Site) -> None:
    """The lead is taken away again and again, so that grants come from several dispatchers."""
    async with ScriptedLLM(costly) as llm, asyncio.TaskGroup() as tasks:
        stop = asyncio.Event()
        for node in ("g1", "g2", "g3"):
            tasks.create_task(_serve(site, node, stop))
        spec = await spec_for(200, 40, concurrency=24)
        batch_id = await site.begin(priced(llm.base_url), spec=spec)
        for _ in range(6):
            await site.log.event_log.answers.ask("$KV.millstream_nodes.dispatcher", b"nobody")
            before = len(llm.requests)
            await site.reach(
                batch_id, lambda state, seen=before: state.is_final or len(llm.requests) > seen, 60
            )
        state = await site.ended(batch_id)
        stop.set()
    assert state.state == "stopped"
    assert len(llm.requests) * COST <= (spec.budgets.max_cost_nano_usd or 0)
    assert len(llm.requests) >= 40


async def _serve(site: Site, node: str, stop: asyncio.Event) -> None:
    async with site.generator(node):
        await stop.wait()


async def test_a_budget_that_is_large_enough_changes_nothing(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator():
        budgets = Budgets(
            max_cost_nano_usd=10**12,
            max_tokens=10**9,
            max_attempts=1000,
            max_duration_s=3600,
            max_failure_ratio=0.5,
        )
        batch_id = await site.begin(priced(llm.base_url), 40, budgets=budgets)
        state = await site.ended(batch_id)
        assert (state.state, state.counts.generated) == ("completed", 40)
        assert await site.events(batch_id, notes.BudgetWarned) == []
    assert len(llm.requests) == 40


async def test_no_more_calls_are_made_than_the_batch_may(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 100, budgets=Budgets(max_attempts=25))
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated, len(llm.requests)) == ("stopped", 25, 25)
    assert state.stop is not None
    assert state.stop.event.reason == "budget_attempts: 25 of 25 are used"


async def test_slots_that_are_tried_again_need_further_grants(site: Site) -> None:
    spec = example_spec(40, slice_size=8, budgets=Budgets(max_attempts=1000))
    first = {attempt_seed(spec, slot, 1) for slot in range(40)}

    def answer(request: Request) -> Answer:
        return Ok("not JSON") if request.body["seed"] in first else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, spec=spec)
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("completed", 40)
    assert (state.counts.rejected, len(llm.requests)) == (40, 80)


async def test_a_batch_that_fails_too_often_is_stopped(site: Site) -> None:
    def answer(request: Request) -> Answer:
        return HttpError(400) if request.index % 2 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 400, budgets=Budgets(max_failure_ratio=0.25))
        state = await site.ended(batch_id)
    assert state.state == "stopped"
    assert state.stop is not None
    assert state.stop.event.reason.startswith("budget_failures: ")
    assert state.counts.generated + state.counts.failed >= 20


async def test_a_batch_that_takes_too_long_is_stopped(site: Site) -> None:
    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.1)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 10_000, budgets=Budgets(max_duration_s=6.0))
        state = await site.ended(batch_id)
        warned = await site.events(batch_id, notes.BudgetWarned)
    assert state.stop is not None
    assert state.stop.event.reason.startswith("budget_duration: ")
    assert state.stop.event.reason.endswith(" of 6 s are used")
    assert 0 < state.counts.generated < 10_000
    assert [event.budget for event in warned] == ["duration"]


async def test_a_cost_budget_without_a_price_ends_the_batch_at_once(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 10, budgets=Budgets(max_cost_nano_usd=10**9))
        state = await site.ended(batch_id)
    assert llm.requests == []
    assert state.stop is not None
    assert "no price is known" in state.stop.event.reason


@pytest.mark.fault
@pytest.mark.timeout(400)
async def test_two_kills_in_mid_batch_do_not_take_the_cost_beyond_its_budget(
    tmp_path: Path,
) -> None:
    """Calls that were in flight at a kill may have been paid: they count in full from then on."""

    def answer(request: Request) -> Answer:
        return Delayed(costly(request), delay_s=0.2)

    async with running_log(tmp_path, lease_s=2.0) as log, ScriptedLLM(answer) as llm:
        site = Site(log)
        spec = await spec_for(200, 30)
        batch_id = await site.begin(priced(llm.base_url), spec=spec)
        generator = ServiceProcess(
            "millstream_generator",
            tmp_path / "g1.log",
            nats_url=log.server.url,
            data_dir=str(tmp_path),
            node="g1",
            lease_s="2",
        )
        with generator:
            for calls in (6, 14):
                await llm.wait_for(
                    lambda found, least=calls: len(found) >= least and llm.open_requests > 1, 120
                )
                generator.kill()
                generator.launch()
            state = await site.ended(batch_id, 120)
    most = spec.budgets.max_cost_nano_usd or 0
    answered = [request for request in llm.requests if request.outcome == "finished"]
    assert state.state == "stopped"
    assert state.counts.unconfirmed_calls > 0
    assert len(answered) * COST <= len(llm.requests) * COST <= most
    assert state.counts.generated >= 15
