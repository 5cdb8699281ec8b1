"""Statistics over time on a real file: lines per provider, and the time to the first sample."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

import pytest

from millstream.testing.events import COST_NANO_USD, Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream.testing.tape_log import TapeLog
from millstream_projector.opening import open_store
from millstream_projector.past.as_of import Past
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_projector.views import queries
from millstream_schemas import analysis, views
from millstream_schemas.sums import LiveSums

STREAM = "2026-01-01T00:00:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, stream=STREAM, last_sequence=10**9)
    yield opened
    opened.close()


def ask(store: Store, past: Past | None = None, **fields: Any) -> analysis.Timeline:
    request = analysis.TimelineQuery(**fields)
    body = queries.answer(store.reader(), "timeline", request, most_bytes=900_000, past=past)
    return analysis.Timeline.model_validate_json(body)


def totals(store: Store, past: Past | None = None) -> views.Statistics:
    request = views.PlainQuery()
    body = queries.answer(store.reader(), "statistics", request, most_bytes=900_000, past=past)
    return views.Statistics.model_validate_json(body)


def fold(store: Store, tape: Tape, step: int = 10**6) -> None:
    projection = Projection(store)
    for begin in range(0, len(tape.stored), step):
        projection.advance(tape.stored[begin : begin + step])


def batch_of(tape: Tape, number: int, model: str, wait_s: float) -> Script:
    """Write a batch whose first sample comes ``wait_s`` after its start, and later ones behind."""
    script = Script(
        tape, batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(3, model=model)
    )
    script.start()
    script.claim(0)
    script.fail_attempt(0)
    tape.wait(wait_s)
    for slot in range(3):
        script.generate(slot, latency_ms=100.0 * (number + 1) + slot)
    return script


def test_rows_per_provider_have_the_percentiles_of_all_its_calls(store: Store) -> None:
    tape = Tape(step_s=0.001)
    for number, model in enumerate(("simulated/fast", "simulated/slow")):
        batch_of(tape, number, model, 0)
    fold(store, tape)
    fast, slow = ask(store, bucket="day").rows
    [both] = ask(store, bucket="day", by="provider").rows
    assert (both.model, both.provider, both.attempts) == (None, "simulated", 8)
    assert (both.samples, both.failures, both.failure_ratio) == (6, 2, 0.25)
    assert both.tokens_in == (fast.tokens_in or 0) + (slow.tokens_in or 0)
    latencies = [100, 101, 102, 200, 201, 202]
    median, p95 = (quantiles(latencies, n=100, method="inclusive")[n] for n in (49, 94))
    assert (both.latency_ms.p50, both.latency_ms.p95) == (median, pytest.approx(p95, abs=0.1))
    for name, alone in (("simulated/fast", fast), ("simulated/slow", slow)):
        [row] = ask(store, bucket="day", by="provider", model=name).rows
        assert row == alone.model_copy(update={"model": None})
    [of_batch] = ask(store, bucket="day", by="provider", batch_id="batch_1767225600_00000001").rows
    assert of_batch == slow.model_copy(update={"model": None})
    assert ask(store, bucket="day").rows == (fast, slow)  # what is kept is kept apart


def test_the_time_to_the_first_sample_is_that_of_batches_from_their_start(store: Store) -> None:
    tape = Tape(step_s=0)
    for number, wait_s in enumerate((1, 2, 3, 40)):
        batch_of(tape, number, "simulated/slow" if number == 3 else "simulated/fast", wait_s)
    waiting = Script(tape, batch_id="batch_1767225600_000000ff", spec=example_spec(3))
    waiting.start()
    waiting.claim(0)
    waiting.fail_attempt(0)
    fold(store, tape, step=5)
    fast, slow = ask(store).first_samples
    assert (fast.model, fast.provider, fast.batches) == ("simulated/fast", "simulated", 3)
    assert (fast.first_sample_ms.p50, fast.first_sample_ms.p95) == (2000, 2900)
    assert (slow.model, slow.batches, slow.first_sample_ms.p50) == ("simulated/slow", 1, 40_000)
    [both] = ask(store, by="provider").first_samples
    assert (both.model, both.batches, both.first_sample_ms.p50) == (None, 4, 2500)
    assert ask(store, model="simulated/slow").first_samples == (slow,)
    assert ask(store, provider="nobody").first_samples == ()
    first_of_slow = next(item for item in tape.recorded if item.stored_at == tape.now)
    later = ask(store, start=first_of_slow.stored_at, bucket="second").first_samples
    assert later == (slow,)  # the others' first samples were stored before
    waiting.generate(1)
    Projection(store).advance(tape.stored[-1:])
    fast, _ = ask(store).first_samples
    assert (fast.batches, fast.first_sample_ms.p99) == (4, pytest.approx(2970, abs=30))


def test_the_time_to_the_first_sample_is_told_as_of_any_sequence(store: Store) -> None:
    rng = Random(7)
    tape = Tape(step_s=0.5)
    scripts = [
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(3, slice_size=3))
        for number in range(4)
    ]
    for script in scripts:
        script.start()
        script.claim(0)
    for script in rng.sample(scripts * 3, 12):
        script.generate(script.open_slots()[0])
    fold(store, tape, step=9)
    log = TapeLog(tape.stored)
    then = open_store(store.path.parent / "then", stream=STREAM, last_sequence=10**9)
    projection = Projection(then)
    for until in range(4, len(tape.stored) + 1, 4):
        projection.advance(tape.stored[:until])
        assert ask(store, Past(until, log)).first_samples == ask(then).first_samples
    then.close()


def test_batches_of_unknown_price_are_counted_beside_the_cost(store: Store) -> None:
    tape = Tape(step_s=60)
    known = batch_of(tape, 0, "simulated/fast", 0)
    unknown = Script(tape, batch_id="batch_1767225600_000000aa", spec=example_spec(3))
    unknown.start()
    unknown.claim(0)
    fold(store, tape)
    assert (totals(store).unpriced_batches, ask(store).unpriced_batches) == (0, 0)
    unknown.generate(0, cost_nano_usd=None)
    end = tape.now + timedelta(seconds=1)
    known.complete()
    fold(store, tape)
    told, live = totals(store), totals(store).live
    assert (told.total, told.cost_nano_usd, told.unpriced_batches) == (4, 4 * COST_NANO_USD, 1)
    assert live == LiveSums(
        samples=1, tokens_in=10, tokens_out=20, cost_nano_usd=None, unpriced_batches=1
    )
    assert ask(store).unpriced_batches == 1
    assert ask(store, model="simulated/slow").unpriced_batches == 0
    assert ask(store, end=end - timedelta(hours=1), bucket="minute").unpriced_batches == 0
    unknown.stop()
    fold(store, tape)
    told = totals(store)
    assert (told.unpriced_batches, told.live and told.live.samples) == (1, 0)


def test_one_call_of_unknown_price_makes_a_batch_unpriced_at_any_moment(store: Store) -> None:
    tape = Tape(step_s=60)
    script = Script(tape, batch_id="batch_1767225600_000000bb", spec=example_spec(3))
    script.start()
    script.claim(0)
    script.generate(0)
    before = script.generate(1).sequence
    after = script.fail_attempt(2, cost_nano_usd=None).sequence
    script.generate(2)
    fold(store, tape)
    log = TapeLog(tape.stored)
    for past, unpriced in ((Past(before, log), 0), (Past(after, log), 1), (None, 1)):
        told = totals(store, past)
        assert told.live is not None
        assert (told.unpriced_batches, told.live.unpriced_batches) == (unpriced, unpriced)
        assert ask(store, past).unpriced_batches == unpriced
    assert totals(store).cost_nano_usd == 3 * COST_NANO_USD
