"""One batch looked at closely: its figures, its errors in groups, the attempts of a slot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream.eventlog.stored import Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_projector.views import queries
from millstream_schemas import analysis


class Model:
    """A read model of what is on a tape, and its answers."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path, stream="2026-01-01T00:00:00Z", last_sequence=10**9)
        self._projection = Projection(self.store)
        self.connection: duckdb.DuckDBPyConnection = self.store.reader()

    def fold(self, stored: list[Stored]) -> None:
        self._projection.advance(stored)

    def ask(self, name: str, **fields: Any) -> Any:
        kind, answer = analysis.QUERIES[name]
        body = queries.answer(self.connection, name, kind(**fields), most_bytes=900_000)
        return answer.model_validate_json(body)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A read model that has folded nothing yet."""
    return Model(tmp_path)


def test_a_slot_tells_why_its_sample_exists_and_why_another_failed(model: Model) -> None:
    tape = Tape()
    script = Script(tape, spec=example_spec(6))
    script.start()
    script.claim(0, node="node-7")
    limited = script.fail_attempt(0, "rate_limit", "HTTP 429")
    rejected = script.reject(0, "answer too short")
    made = script.generate(0)
    script.fail_attempt(1, "timeout", "no token in 20 s")
    script.fail(1, "timeout", "no token in 20 s")
    model.fold(tape.stored)
    found = model.ask("attempts", batch_id=script.batch_id, slot=0)
    assert (found.outcome, found.sample.id) == ("generated", f"{script.batch_id}-0")
    assert [(one.kind, one.sequence) for one in found.attempts] == [
        ("attempt_failed", limited.sequence),
        ("rejected", rejected.sequence),
        ("generated", made.sequence),
    ]
    refusal = found.attempts[1]
    assert (refusal.category, refusal.rule, refusal.node) == ("validation", "json", "node-7")
    assert (refusal.message, refusal.answer) == ("answer too short", "half an ans")
    assert (refusal.usage.tokens_out, refusal.usage.first_token_ms) == (20, None)
    failed = model.ask("attempts", batch_id=script.batch_id, slot=1)
    assert (failed.outcome, failed.sample) == ("failed", None)
    assert [one.kind for one in failed.attempts] == ["attempt_failed", "failed"]
    groups = model.ask("figures", batch_id=script.batch_id).errors
    assert {(one.failed_slots, one.given_up) for one in groups if one.failed_slots} == {(1, (1,))}
    untouched = model.ask("attempts", batch_id=script.batch_id, slot=5)
    assert (untouched.outcome, untouched.attempts, untouched.slice_index) == ("pending", (), 1)
    done = len(tape.stored)
    script.stop()
    model.fold(tape.stored[done:])
    assert model.ask("attempts", batch_id=script.batch_id, slot=5).outcome == "abandoned"


def test_each_attempt_and_sample_tells_its_route_and_an_old_one_none(model: Model) -> None:
    script = Script(spec=example_spec(4))
    script.start()
    script.claim(0)
    script.generate(0)
    script.route = "route.a"
    script.fail_attempt(1)
    script.route = "route.b"
    script.reject(1)
    script.generate(1)
    model.fold(script.tape.stored)
    old = model.ask("attempts", batch_id=script.batch_id, slot=0)
    new = model.ask("attempts", batch_id=script.batch_id, slot=1)
    assert [one.route for one in (*old.attempts, old.sample)] == [None, None]
    assert [one.route for one in new.attempts] == ["route.a", "route.b", "route.b"]
    assert (new.sample.route, new.attempts[-1].usage) == ("route.b", new.sample.usage)


def test_a_batch_in_figures_leaves_out_what_nobody_knows(model: Model) -> None:
    script = Script()
    script.start()
    model.fold(script.tape.stored)
    found = model.ask("figures", batch_id=script.batch_id)
    assert found.rates == analysis.Rates()
    assert (found.eta_s, found.eta_at, found.cost) == (None, None, analysis.Cost())
    assert found.latency_ms == found.first_token_ms == analysis.Percentiles()
    assert (found.errors, found.error_groups) == ((), 0)


def test_figures_say_how_fast_dear_and_faulty_a_batch_is(model: Model) -> None:
    # The batch was claimed half a minute ago, so that the last minute is not over yet.
    tape = Tape(begin=datetime.now(UTC) - timedelta(seconds=30), step_s=0.001)  # noqa: TID251  # the view looks at the clock
    script = Script(tape, spec=example_spec(100, slice_size=50))
    script.start()
    script.claim(0)
    for slot in range(10):
        script.generate(slot, latency_ms=float(slot), cost_nano_usd=1_000)
    for slot, host in ((10, "a-1"), (11, "b-22"), (12, "c-333")):
        script.fail_attempt(
            slot,
            "timeout",
            f"no answer from https://{host}.example/v1 for 'req {slot}' in {slot}.5 s",
            cost_nano_usd=100,
        )
    script.reject(10, "answer too short")
    model.fold(tape.stored)
    found = model.ask("figures", batch_id=script.batch_id)
    assert found.rates.last_minute == pytest.approx(10 / 30, rel=0.2)
    assert found.rates.overall == found.rates.last_minute
    assert found.eta_s == pytest.approx(90 / (10 / 30), rel=0.2)
    counts = script.state.counts
    assert counts.cost_nano_usd is not None
    assert found.cost == analysis.Cost(
        spent_nano_usd=counts.cost_nano_usd,
        wasted_nano_usd=counts.wasted_nano_usd,
        projected_nano_usd=counts.cost_nano_usd * 10,
        per_sample_nano_usd=counts.cost_nano_usd // 10,
    )
    assert found.latency_ms.p50 == 4.5
    script.generate(20, cost_nano_usd=None)
    model.fold(tape.stored)
    assert model.ask("figures", batch_id=script.batch_id).cost == analysis.Cost(
        spent_nano_usd=counts.cost_nano_usd,
        wasted_nano_usd=counts.wasted_nano_usd,
        projected_nano_usd=None,
        per_sample_nano_usd=None,
    )
    timeouts, refusals = found.errors
    assert (timeouts.category, timeouts.count, timeouts.failed_slots) == ("timeout", 3, 0)
    assert timeouts.given_up == ()
    assert timeouts.message == "no answer from <url> for <text> in <n> s"
    assert timeouts.example_at.slot == 12
    assert "c-333.example" in timeouts.example
    assert (refusals.category, refusals.rule, refusals.count) == ("validation", "json", 1)
    assert model.ask("figures", batch_id=script.batch_id, errors=1).error_groups == 2
