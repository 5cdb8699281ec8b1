"""A batch's way through the generator: every slot gets one outcome, whoever works on it."""

import asyncio
from pathlib import Path

import pytest

from millstream.domain.plan import attempt_seed
from millstream.eventlog.work import WorkQueue
from millstream.recipes import RecipeBook
from millstream.runtime.settings import Settings
from millstream.testing.examples import example_spec
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S, until
from millstream_generator.completion import Completion, Progress, Prompt
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.service import main
from millstream_generator.targets import Targets
from millstream_schemas import control, slices, subjects
from millstream_schemas.routes import Price, Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]


class Gate:
    """Holds answers back until it is opened; counts the calls in flight."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self, request: Request) -> Answer:
        return Delayed(sample(request), until=self.event)


async def test_a_batch_of_twenty_completes_with_each_slot_once(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator():
        price = Price(input_nano_usd_per_1k=1000, output_nano_usd_per_1k=1000)
        batch_id = await site.begin([route(llm.base_url, price=price)], 20)
        state = await site.ended(batch_id)
        assert state.state == "completed"
        assert (state.counts.generated, state.counts.failed) == (20, 0)
        assert state.counts.cost_nano_usd is not None
        assert await site.outcomes(batch_id) == dict.fromkeys(range(20), 1)
        assert len(llm.requests) == 20
        seeds = {request.body["seed"] for request in llm.requests}
        assert seeds == {attempt_seed(state.spec, slot, 1) for slot in range(20)}
        history = await site.history(batch_id)
    causes = {event.id: event for event in history}
    for event in history[1:]:
        cause = causes.get(event.causation_id or "")
        if isinstance(event, slices.SliceClaimed):
            assert cause is history[0]
        elif isinstance(event, slices.SliceEvent):
            assert isinstance(cause, slices.SliceClaimed)
            assert cause.slice == event.slice


@pytest.mark.parametrize(("target", "slice_size"), [(40, 1), (40, 4)])
async def test_the_concurrency_is_used_and_never_exceeded(
    site: Site, target: int, slice_size: int
) -> None:
    gate, most = Gate(), 0

    def answer(request: Request) -> Answer:
        nonlocal most
        most = max(most, llm.open_requests)
        return gate(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, target, slice_size=slice_size, concurrency=20)
        await llm.wait_for(lambda _: llm.open_requests == 20)
        gate.event.set()
        assert (await site.ended(batch_id)).state == "completed"
    assert most == 20


async def test_a_nodes_own_bound_holds_over_all_its_batches(site: Site) -> None:
    gate, most = Gate(), 0

    def answer(request: Request) -> Answer:
        nonlocal most
        most = max(most, llm.open_requests)
        return gate(request)

    async with ScriptedLLM(answer) as llm, site.generator(node_concurrency=5):
        batches = [await site.begin(llm.base_url, 10) for _ in range(2)]
        await llm.wait_for(lambda _: llm.open_requests == 5)
        gate.event.set()
        for batch_id in batches:
            assert (await site.ended(batch_id)).counts.generated == 10
    assert most == 5


async def test_two_generators_share_one_batch(site: Site) -> None:
    gate = Gate()
    async with (
        ScriptedLLM(gate) as llm,
        site.generator("g1", node_concurrency=8),
        site.generator("g2", node_concurrency=8),
    ):
        batch_id = await site.begin(llm.base_url, 64, slice_size=2, concurrency=12)
        await llm.wait_for(lambda _: llm.open_requests == 12)
        gate.event.set()
        assert (await site.ended(batch_id)).state == "completed"
        assert await site.outcomes(batch_id) == dict.fromkeys(range(64), 1)
        claims = await site.events(batch_id, slices.SliceClaimed)
    assert {claim.after.node for claim in claims} == {"g1", "g2"}
    assert len(llm.requests) == 64


RECIPE = """
name = "mine"
title = "Mine"
prompt = "Write about {{ topic }} as {{ difficulty }}."
text_field = "question"
difficulties = [{ id = "basic" }]
sample_types = [{ id = "plain", name = "Plain" }]
topics = [{ area = "Law", topic = "Torts" }]

[output]
type = "object"
additionalProperties = false
required = ["question", "answer"]

[output.properties]
question = { type = "string", maxLength = 200 }
answer = { type = "string", maxLength = 1000 }
"""


async def test_a_recipe_that_is_deleted_in_mid_batch_changes_nothing(
    site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE, encoding="utf-8")
    book = RecipeBook([tmp_path])
    gate = Gate()

    def answer(request: Request) -> Answer:
        return gate(request) if request.index else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        spec = example_spec(6, slice_size=2).model_copy(update={"recipe": book.pin("mine")})
        batch_id = await site.begin(llm.base_url, spec=spec)
        await site.reach(batch_id, lambda state: state.counts.generated == 1)
        file.unlink()
        assert "mine" not in book.names()
        gate.event.set()
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("completed", 6), state.last_error
    asked = {request.body["messages"][-1]["content"] for request in llm.requests}
    assert asked == {"Write about Torts as basic."}


class Faulty(LitellmLane):
    """A lane with a defect that shows for one model only."""

    async def complete(self, route: Route, prompt: Prompt, progress: Progress) -> Completion:
        if route.model == "test/defect":
            raise RuntimeError("a defect")
        return await super().complete(route, prompt, progress)


async def test_a_defect_of_a_lane_fails_its_batch_by_name_and_leaves_the_others_alone(
    site: Site,
) -> None:
    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        lane = Faulty(Targets(settings), settle=lambda: None)
        try:
            await main(settings, lane, stop)
        finally:
            await lane.close()

    async with (
        ScriptedLLM(sample) as llm,
        ScriptedLLM(sample) as other,  # batches with the same address share its circuit
        site.generator(serve=serve, unanswered_s=1.0),
    ):
        ways = [route(other.base_url, model="test/defect")]
        broken = await site.begin(ways, 2)
        await site.reach(broken, lambda state: state.state == "running")
        whole = await site.begin(llm.base_url, 10)
        assert (await site.ended(whole)).counts.generated == 10
        failed = await site.ended(broken)
        claims = await site.events(broken, slices.SliceClaimed)
    assert failed.state == "failed"
    assert failed.error is not None
    assert "RuntimeError: a defect" in failed.error.message
    # No node died of it, and nothing was sent.
    assert (len(claims), failed.counts.unconfirmed_calls) == (1, 0)
    assert len(llm.requests) == 10


async def test_an_event_of_a_later_version_in_a_slice_harms_only_that_slice(site: Site) -> None:
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin(llm.base_url, 4)
        subject = subjects.slice_(batch_id, 0)
        body = f'{{"type": "sample.dreamt.v9", "id": "x", "subject": "{subject}"}}'
        await site.log.event_log.answers.ask(subject, body.encode())
        async with site.generator():
            state = await site.reach(batch_id, lambda state: state.counts.generated == 2)
    assert 0 not in state.slices


async def test_work_that_the_queue_lost_is_queued_again_though_no_event_comes(site: Site) -> None:
    """The whole work stream goes while all that is left of the batch waits in it."""
    async with ScriptedLLM(sample) as llm, site.generator():
        await site.ended(await site.begin(llm.base_url, 2))
        await site.log.event_log.answers.ask(f"$JS.API.STREAM.DELETE.{subjects.WORK}", b"")
        batch_id = await site.begin(llm.base_url, 10)
        assert (await site.ended(batch_id)).counts.generated == 10
        assert await site.outcomes(batch_id) == dict.fromkeys(range(10), 1)


async def test_a_slice_that_vanished_from_the_queue_in_silence_comes_back(site: Site) -> None:
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin(llm.base_url, 4, pool="other")
        async with site.generator():
            queue = WorkQueue(site.log.event_log.answers)
            await _queued(queue, batch_id)
            await queue.purge(batch_id)
            await _queued(queue, batch_id)
            async with site.generator("g2", pool="other"):
                assert (await site.ended(batch_id)).counts.generated == 4


async def _queued(queue: WorkQueue, batch_id: str) -> None:
    async with asyncio.timeout(BOUND_S):
        while await queue.queued(batch_id) != {0, 1}:
            await asyncio.sleep(0.02)


async def test_nats_killed_and_started_again_in_mid_batch_loses_and_doubles_nothing(
    site: Site,
) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 24)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        site.log.server.kill()
        await site.log.server.wait()
        gate.event.set()
        await until(lambda: llm.open_requests == 0, what="answers that wait for the log")
        await site.log.server.start()
        state = await site.ended(batch_id)
        assert (state.state, state.counts.generated) == ("completed", 24)
        assert await site.outcomes(batch_id) == dict.fromkeys(range(24), 1)
        ends = await site.events(batch_id, control.BatchCompleted)
    assert len(ends) == 1
    assert len(llm.requests) == 24
