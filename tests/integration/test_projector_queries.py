"""The projector as a process: answers over NATS, read-your-writes, stuck notes, its end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.testing.asking import ask, is_answered, publish, refused
from millstream.testing.events import Script
from millstream.testing.examples import example_recipe, example_spec
from millstream.testing.nats import RunningLog, everything
from millstream.testing.tape import Tape
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_schemas import views
from millstream_schemas.sums import Tally

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def projecting(running: RunningLog, **settings: Any) -> AsyncIterator[EventLog]:
    """Run a projector in this process; the end of the block ends it."""
    stop = asyncio.Event()
    chosen = running.settings.model_copy(update=settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(main(chosen, stop))
        try:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(running.event_log):
                    await asyncio.sleep(0.02)
            yield running.event_log
        finally:
            stop.set()


def three_batches() -> tuple[Tape, list[Script]]:
    """One batch completed with a failure, one stopped, one running; other models and recipes."""
    tape = Tape()
    first = Script(tape, batch_id="batch_1767225600_0000000a", spec=example_spec(5)).run(failed=[2])
    second = Script(
        tape,
        batch_id="batch_1767225600_0000000b",
        spec=example_spec(6, model="simulated/slow", topic="Law - Torts"),
    )
    second.start()
    second.claim(0)
    second.generate(
        0, {"question": "Who breaks a contract?", "answer": "Whoever does not perform."}
    )
    second.reject(1)
    second.stop("enough")
    third = Script(
        tape,
        batch_id="batch_1767225600_0000000c",
        spec=example_spec(3, recipe=example_recipe("other")),
    )
    third.start()
    third.claim(0)
    third.generate(1)
    return tape, [first, second, third]


async def test_a_projector_that_has_folded_nothing_answers_empty(running: RunningLog) -> None:
    async with projecting(running) as log:
        history = await ask(log, "history")
        assert (history.batches, history.total, history.as_of) == ((), 0, 0)
        statistics = await ask(log, "statistics")
        assert (statistics.total, statistics.cost_nano_usd, statistics.as_of) == (0, None, 0)
        samples = await ask(log, "samples")
        assert (samples.samples, samples.total) == ((), 0)
        error = await refused(log, "batch", b'{"batch_id": "batch_1767225600_0000000a"}')
        assert error.code == "not_found"


async def test_every_query_answers_from_the_fold(running: RunningLog) -> None:
    tape, scripts = three_batches()
    async with projecting(running) as log:
        last = await publish(log, tape)
        folded = await folds(running)

        history = await ask(log, "history", min_sequence=last)
        expected = tuple(batch_view(folded[script.batch_id]) for script in reversed(scripts))
        assert history.batches == expected
        assert history.states == {"completed": 1, "running": 1, "stopped": 1}
        assert (history.total, history.next_cursor, history.as_of) == (3, None, last)

        one = await ask(log, "batch", batch_id=scripts[1].batch_id)
        assert (one.batch, one.as_of) == (expected[1], last)

        samples = await ask(log, "samples")
        assert [(sample.batch_id, sample.slot) for sample in samples.samples] == [
            *((scripts[0].batch_id, slot) for slot in (0, 1, 3, 4)),
            (scripts[1].batch_id, 0),
            (scripts[2].batch_id, 1),
        ]
        sample = samples.samples[4]
        assert sample.id == f"{scripts[1].batch_id}-0"
        assert sample.content["question"] == "Who breaks a contract?"
        assert (sample.usage.tokens_out, sample.usage.latency_ms, sample.attempt) == (20, 50.0, 1)
        assert (sample.model, sample.provider, sample.area) == (
            "simulated/slow",
            "simulated",
            "Law",
        )

        quality = await ask(log, "quality", batch_id=scripts[0].batch_id)
        assert (quality.total_samples, quality.failed, quality.rejected) == (4, 1, 0)
        assert quality.average_lengths == {"answer": 8.0, "question": 10.0}
        assert quality.topics == {"Law - Contracts": 2, "Law - Torts": 2}
        assert (quality.total_tokens, quality.average_tokens) == (120, 30.0)

        statistics = await ask(log, "statistics")
        assert (statistics.total, statistics.batches, statistics.unique_topics) == (6, 3, 2)
        assert statistics.models[0] == Tally(name="simulated/fast", count=5)
        assert statistics.tokens_in == sum(s.state.counts.tokens_in for s in scripts)
        assert (await ask(log, "stuck")).batches == ()


async def folds(running: RunningLog) -> dict[str, BatchState]:
    """The plain fold of the whole log."""
    states: dict[str, BatchState] = {}
    for stored in await everything(running.event_log):
        recorded = decode(stored)
        assert recorded is not None
        batch_id = recorded.event.batch_id
        states[batch_id] = apply(states.get(batch_id) or BatchState(batch_id), recorded)
    return states


async def test_history_is_filtered_counted_and_paged(running: RunningLog) -> None:
    tape, scripts = three_batches()
    ids = [script.batch_id for script in scripts]
    async with projecting(running) as log:
        last = await publish(log, tape)

        async def found(**fields: Any) -> list[str]:
            page = await ask(log, "history", min_sequence=last, **fields)
            return [batch.id for batch in page.batches]

        assert await found(model="simulated/slow") == [ids[1]]
        assert await found(recipe="other") == [ids[2]]
        assert await found(states=("completed", "running")) == [ids[2], ids[0]]
        assert await found(text="TORTS") == [ids[1]]
        assert await found(text="0000000A") == [ids[0]]
        assert await found(text="nothing like it") == []
        page = await ask(log, "history", states=("stopped",), limit=1)
        assert (page.total, page.states) == (1, {"completed": 1, "running": 1, "stopped": 1})

        walked, cursor = [], None
        while True:
            page = await ask(log, "history", limit=2, cursor=cursor)
            walked += [batch.id for batch in page.batches]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert walked == ids[::-1]


async def test_samples_are_searched_in_their_values_alone(running: RunningLog) -> None:
    tape, scripts = three_batches()
    async with projecting(running) as log:
        last = await publish(log, tape)

        async def found(**fields: Any) -> int:
            return int((await ask(log, "samples", min_sequence=last, **fields)).total)

        assert await found(text="BREAKS a contract") == 1
        assert await found(text="question") == 0  # the name of a field stands in every sample
        assert await found(text="what is") == 5
        assert await found(text="what is", batch_id=scripts[0].batch_id) == 4
        assert await found(text='"') == 0
        page = await ask(log, "samples", text="what is", limit=2)
        assert (len(page.samples), page.total) == (2, 5)
        rest = await ask(log, "samples", text="what is", cursor=page.next_cursor)
        assert [s.sequence for s in rest.samples] == sorted(
            {s.sequence for s in (await ask(log, "samples", text="what is")).samples}
            - {s.sequence for s in page.samples}
        )


async def test_the_latest_samples_come_first_where_they_are_asked_so(running: RunningLog) -> None:
    tape, _ = three_batches()
    async with projecting(running) as log:
        last = await publish(log, tape)
        stored = (await ask(log, "samples", min_sequence=last)).samples
        walked, cursor = [], None
        while True:
            page = await ask(log, "samples", sort="-stored", limit=2, cursor=cursor)
            walked += page.samples
            cursor = page.next_cursor
            if cursor is None:
                break
        assert walked == list(stored)[::-1]


async def test_events_of_a_batch_come_as_they_were_stored(running: RunningLog) -> None:
    tape, scripts = three_batches()
    batch_id = scripts[0].batch_id
    async with projecting(running) as log:
        last = await publish(log, tape)
        stored = [item for item in tape.stored if batch_id in item.subject]
        walked: list[views.EventView] = []
        after = 0
        while True:
            page = await ask(
                log,
                "events",
                batch_id=batch_id,
                after=after,
                limit=4,
                min_sequence=last,
            )
            walked += page.events
            if page.next_cursor is None:
                break
            after = int(page.next_cursor)
        assert [event.event for event in walked] == [json.loads(item.payload) for item in stored]
        assert [event.sequence for event in walked] == [item.sequence for item in stored]
        for kind in ("control", "note"):
            page = await ask(log, "events", batch_id=batch_id, kind=kind)
            own = [item.sequence for item in stored if item.subject.endswith(f".{kind}")]
            assert [event.sequence for event in page.events] == own
        for wrong in ("batch_1767225600_ffffffff", "*", "a.b"):
            for kind in (None, "control", "note"):
                body = json.dumps({"batch_id": wrong, "kind": kind}).encode()
                assert (await refused(log, "events", body)).code == "not_found"


BEFORE_YEAR_1 = b'{"started_after": "0001-01-01T00:00:00+14:00"}'
AFTER_9999 = b'{"started_before": "9999-12-31T23:59:59-14:00", "at_seq": 0}'
AT_BEFORE_YEAR_1 = b'{"at_time": "0001-01-01T00:00:00+14:00"}'
LAST_DAY = b'{"start": "9999-12-31T00:00:00Z", "end": "9999-12-31T23:59:59Z", "bucket": "day"}'


async def test_bad_queries_are_refused_in_words(running: RunningLog) -> None:
    cases: list[tuple[str, bytes, str, str]] = [
        ("history", b"{", "invalid", "request="),
        ("history", b'{"limit": 0}', "invalid", "limit='0'"),
        ("history", b'{"cursor": "%%%"}', "invalid", "cursor='%%%'"),
        ("history", b'{"cursor": "bm90IGEgbnVtYmVy"}', "invalid", "cursor="),
        ("history", BEFORE_YEAR_1, "invalid", "started_after=0001-01-01T00:00:00+14:00 is beyond"),
        ("history", AFTER_9999, "invalid", "started_before=9999-12-31T23:59:59-14:00 is beyond"),
        ("stuck", AT_BEFORE_YEAR_1, "invalid", "at_time=0001-01-01T00:00:00+14:00 is beyond"),
        (
            "timeline",
            LAST_DAY,
            "invalid",
            "end='9999-12-31T23:59:59+00:00' has no whole day around it",
        ),
        ("samples", b'{"batch_id": "nobody"}', "not_found", "batch_id='nobody'"),
        ("quality", b'{"batch_id": "nobody"}', "not_found", "batch_id='nobody'"),
        ("fortune", b"{}", "invalid", "query='fortune'"),
        ("batch", b"{}", "invalid", "batch_id="),
    ]
    async with projecting(running) as log:
        for name, body, code, words in cases:
            error = await refused(log, name, body)
            assert (error.code, words in error.message) == (code, True), (name, error)
        error = await refused(log, "stuck", b'{"min_sequence": 5}')
        assert error.code == "behind"
        assert "min_sequence=5 is not folded yet: this projector is at 0" in error.message


async def test_a_query_waits_until_its_sequence_is_folded(running: RunningLog) -> None:
    script = Script()
    script.start()
    script.claim(0)
    async with projecting(running) as log:
        last = await publish(log, script.tape)
        for slot in range(3):
            last = await log.append(script.generate(slot).event, expected=last if slot else 2)
            answer = await ask(log, "batch", batch_id=script.batch_id, min_sequence=last)
            assert answer.batch.counts.generated == slot + 1
            assert answer.as_of >= last
