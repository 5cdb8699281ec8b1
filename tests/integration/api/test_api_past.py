"""The past over HTTP and NATS: each view at a sequence or a time, and moments that are none."""

import asyncio
import json
import sys
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from millstream.domain.batch import fold
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.domain.recorded import Recorded
from millstream.domain.view import batch_view
from millstream.eventlog.redacting import redact
from millstream.eventlog.redaction import batch_history
from millstream.eventlog.stored import Stored, decode
from millstream.runtime.clock import new_id, utc_now
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, play
from millstream_schemas import subjects, views
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.slices import SampleGenerated

pytestmark = pytest.mark.anyio


async def read(api: Any, path: str, **parameters: Any) -> Any:
    answer = await api.client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def filled(api: Any, ending: str) -> list[Stored]:
    """A log of two batches as the stream has it, folded by the projector."""
    script = play(Random(3), example_spec(30, slice_size=5), 120, ending)
    await api.append(script.tape.entries)
    pages = api.log.event_log.history(subjects.ALL_EVENTS)
    return [stored async for page in pages for stored in page]


def own(log: list[Stored], until: int) -> list[Recorded[BatchEvent]]:
    found = [decode(stored) for stored in log if stored.sequence <= until]
    return [one for one in found if one is not None and one.event.batch_id == BATCH]


def state_at(log: list[Stored], until: int) -> BatchState:
    return fold(BATCH, own(log, until))


async def test_a_batch_and_the_board_are_shown_as_they_were_at_any_sequence(api: Any) -> None:
    log = await filled(api, "stopped")
    start = next(one.sequence for one in own(log, 10**9))
    for until in range(start, len(log) + 1, 3):
        expected = batch_view(state_at(log, until))
        answer = await read(api, f"/v1/batches/{BATCH}", at_seq=until)
        assert (views.BatchView(**answer["batch"]), answer["as_of"]) == (expected, until)
    middle = len(log) // 2
    was = state_at(log, middle)
    page = await read(api, "/v1/batches", at_seq=middle, state="running")
    shown = [batch["id"] for batch in page["batches"]]
    assert (BATCH in shown, page["as_of"]) == (was.state == "running", middle)
    made = [one.event for one in own(log, middle) if isinstance(one.event, SampleGenerated)]
    samples = await read(api, f"/v1/batches/{BATCH}/samples", at_seq=middle)
    assert [one["slot"] for one in samples["samples"]] == [event.slot for event in made]
    quality = await read(api, f"/v1/batches/{BATCH}/quality", at_seq=middle)
    mean = sum(len(event.content["question"]) for event in made) / len(made)
    assert quality["average_lengths"]["question"] == round(mean, 2)
    assert (quality["rejected"], quality["total_samples"]) == (was.counts.rejected, len(made))
    statistics = await read(api, "/v1/statistics", at_seq=middle)
    assert (statistics["total"], statistics["tokens_in"]) == (len(made), was.counts.tokens_in)
    events = await read(api, f"/v1/batches/{BATCH}/events", at_seq=middle, limit=1000)
    assert [one["sequence"] for one in events["events"]] == [
        one.sequence for one in own(log, middle)
    ]
    slot = made[-1].slot
    found = await read(api, f"/v1/batches/{BATCH}/slots/{slot}", at_seq=middle)
    assert found["outcome"] == "generated"
    stuck = await read(api, "/v1/stuck", at_seq=middle)
    assert [one["id"] for one in stuck["batches"]] == ([BATCH] if was.stuck else [])
    timeline = await read(api, "/v1/statistics/timeline", at_seq=middle)
    assert sum(row["samples"] for row in timeline["rows"]) == len(made)


async def test_a_time_means_the_last_event_that_was_stored_by_then(api: Any) -> None:
    log = await filled(api, "live")
    path = f"/v1/batches/{BATCH}"
    for stored in (log[len(log) // 3], log[-1]):
        last = max(one.sequence for one in log if one.stored_at <= stored.stored_at)
        answer = await read(api, path, at_time=stored.stored_at.isoformat())
        assert answer["as_of"] == last
        assert views.BatchView(**answer["batch"]) == batch_view(state_at(log, last))
    later = (log[-1].stored_at + timedelta(days=1)).isoformat()
    assert (await read(api, path, at_time=later))["as_of"] == len(log)
    figures = await read(api, f"{path}/figures", at_seq=len(log))
    assert figures["at"] == log[-1].stored_at.isoformat().replace("+00:00", "Z")
    assert figures["rates"]["last_minute"] > 0  # a minute of the log's time, not of today's
    before = (log[0].stored_at - timedelta(seconds=1)).isoformat()
    board = await read(api, "/v1/batches", at_time=before)
    assert (board["batches"], board["total"], board["as_of"]) == ([], 0, 0)
    assert (await api.client.get(path, params={"at_seq": 0})).status_code == 404


async def test_what_was_erased_since_is_erased_in_the_past_too(api: Any) -> None:
    await filled(api, "stopped")
    event_log, ada = api.log.event_log, Actor(kind="user", id="ada")
    stamp = Stamp(new_id, utc_now(), ada, "test", "command")
    await redact(event_log, BATCH, range(12), stamp, reason="asked for", attempts=True)
    pages = batch_history(event_log, BATCH)
    log = [stored async for page in pages for stored in page]
    last = log[-1].sequence
    await api.folded(last)
    for until in range(log[0].sequence, last + 1, 2):
        answer = await read(api, f"/v1/batches/{BATCH}", at_seq=until)
        assert views.BatchView(**answer["batch"]) == batch_view(state_at(log, until)), until


async def test_a_moment_that_is_none_is_refused_with_words(api: Any) -> None:
    log = await filled(api, "live")
    for parameters, words in (
        ({"at_seq": 3, "at_time": "2026-01-01T00:00:00Z"}, "leave one of them out"),
        ({"at_time": "2026-01-01T00:00:00"}, "no time with an offset"),
        ({"at_time": "20260101"}, "no time with an offset"),
        ({"at_time": "0001-01-01T00:00:00+23:00"}, "no time with an offset"),
        ({"at_seq": len(log) + 1}, f"beyond the log's end, which is at {len(log)}"),
    ):
        answer = await api.client.get("/v1/batches", params=parameters)
        assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text


async def test_the_command_line_shows_the_past(api: Any) -> None:
    log = await filled(api, "stopped")
    middle = len(log) // 2
    made = [one for one in own(log, middle) if isinstance(one.event, SampleGenerated)]
    shown = await _printed(api, "show", BATCH, "--at", str(middle))
    assert views.BatchView(**shown["batch"]) == batch_view(state_at(log, middle))
    moment = log[middle - 1].stored_at.replace(tzinfo=None).isoformat()  # UTC where none is said
    samples = await _printed(api, "samples", BATCH, "--at", moment, "--limit", "5")
    assert (samples["total"], len(samples["samples"])) == (len(made), 5)
    board = await _printed(api, "list", "--at", "0")
    assert board["batches"] == []


async def _printed(api: Any, *words: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream.cli", "batch", *words),
        *("--url", api.url, "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)
