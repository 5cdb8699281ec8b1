"""What the read model's views say, checked on a real file against a plain reckoning."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from millstream.domain.view import batch_view
from millstream.eventlog.stored import Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_recipe, example_spec
from millstream.testing.histories import play
from millstream.testing.tape import Tape
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_projector.views import queries, running
from millstream_projector.views.paging import RefusedError
from millstream_schemas import analysis, lanes, views
from millstream_schemas.control import BatchSpec

STREAM = "2026-01-01T00:00:00Z"
KNOWN = views.QUERIES | analysis.QUERIES | lanes.QUERIES
SORT_KEYS: dict[str, Any] = {
    "started": lambda view: view.started_at.timestamp(),
    "finished": lambda view: view.finished_at and view.finished_at.timestamp(),
    "progress": lambda view: (view.target - view.counts.pending) / view.target,
    "cost": lambda view: view.counts.cost_nano_usd,
    "samples": lambda view: view.counts.generated,
}


class Model:
    """A read model of what is on a tape, and its answers."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path, stream=STREAM, last_sequence=10**9)
        self._projection = Projection(self.store)
        self.connection: duckdb.DuckDBPyConnection = self.store.reader()

    def fold(self, stored: list[Stored]) -> None:
        self._projection.advance(stored)

    def ask(self, name: str, **fields: Any) -> Any:
        kind, answer = KNOWN[name]
        body = queries.answer(self.connection, name, kind(**fields), most_bytes=900_000)
        return answer.model_validate_json(body)

    def refused(self, name: str, **fields: Any) -> str:
        with pytest.raises(RefusedError) as refusal:
            self.ask(name, **fields)
        return str(refusal.value)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A read model that has folded nothing yet."""
    return Model(tmp_path)


def mixed_batches(tape: Tape) -> list[Script]:
    """Seven batches of two models, two recipes and three ends; two of them still run."""
    scripts = []
    for number in range(7):
        fields: dict[str, Any] = {"topic": "Law - Torts"} if number % 3 == 0 else {}
        spec = example_spec(
            4 + number,
            model=("simulated/fast", "simulated/slow")[number % 2],
            recipe=example_recipe(("example", "other")[number // 4]),
            **fields,
        )
        script = Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)
        if number < 3:
            script.run(failed=[number])
        else:
            script.start()
            script.claim(0)
            for slot in range(number % 3 + 1):
                script.generate(slot, cost_nano_usd=None if number == 6 else 1000 * number)
            if number == 4:
                script.stop()
        scripts.append(script)
        tape.wait(60)
    return scripts


def walk(model: Model, name: str, field: str, **fields: Any) -> list[Any]:
    """All of a list, two at a time."""
    found: list[Any] = []
    cursor = None
    while True:
        page = model.ask(name, cursor=cursor, limit=2, **fields)
        found += getattr(page, field)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("sort", sorted(SORT_KEYS))
def test_history_is_sorted_both_ways_and_paged_without_gap_or_repeat(
    model: Model, sort: str
) -> None:
    tape = Tape()
    expected = [batch_view(script.state) for script in mixed_batches(tape)]
    model.fold(tape.stored)
    key = SORT_KEYS[sort]
    for sign, reverse in (("", False), ("-", True)):
        found = walk(model, "history", "batches", sort=f"{sign}{sort}")
        assert sorted(found, key=lambda view: view.id) == expected
        keys = [key(view) for view in found]
        known = [value for value in keys if value is not None]
        assert known == sorted(known, reverse=reverse)
        assert keys[len(known) :] == [None] * (len(keys) - len(known))


def test_facets_count_what_the_other_filters_leave(model: Model) -> None:
    tape = Tape()
    seen = [batch_view(script.state) for script in mixed_batches(tape)]
    model.fold(tape.stored)
    wanted = {"model": "simulated/slow", "recipe": "other"}
    page = model.ask("history", states=("running",), **wanted)

    def counted(field: str, **filters: str) -> dict[str, int]:
        left = [v for v in seen if all(getattr(v, k) == x for k, x in filters.items())]
        return dict(Counter(getattr(v, field) for v in left if getattr(v, field) is not None))

    facets = {name: {t.name: t.count for t in found} for name, found in page.facets.items()}
    assert page.states == counted("state", **wanted)
    assert facets["models"] == counted("model", state="running", recipe="other")
    assert facets["recipes"] == counted("recipe", state="running", model="simulated/slow")
    assert facets["topics"] == counted("topic", state="running", **wanted)
    assert page.total == len(page.batches) == page.states["running"]
    assert [v.id for v in model.ask("history", topic="Law - Torts").batches] == [
        v.id for v in reversed(seen) if v.topic
    ]
    after, before = seen[2].started_at, seen[5].started_at
    shown = model.ask("history", started_after=after, started_before=before).batches
    assert [v.id for v in shown] == [seen[n].id for n in (4, 3, 2)]


def test_malformed_cursors_and_ranges_are_refused_in_words(model: Model) -> None:
    tape = Tape()
    mixed_batches(tape)
    model.fold(tape.stored)
    cursor = model.ask("history", limit=1, sort="-cost").next_cursor
    words = model.refused("history", cursor=cursor, sort="cost")
    assert "is of a list sorted by '-cost', not by 'cost'" in words
    assert "leave the cursor out" in words
    assert "not by 'sequence'" in model.refused("samples", cursor=cursor)
    latest = model.ask("samples", limit=1, sort="-stored").next_cursor
    assert "'-sequence', not by 'sequence'" in model.refused("samples", cursor=latest)
    for wrong in ("%%%", "e30", "W10", "WyItY29zdCIsMV0", "WyItY29zdCIsIngiLDFd", "é", ""):
        assert f"cursor={wrong!r}" in model.refused("history", cursor=wrong, sort="-cost")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert "is not before" in model.refused("history", started_after=now, started_before=now)
    assert "is not before" in model.refused("timeline", start=now, end=now)
    far = now + timedelta(days=30)
    assert "give a larger bucket" in model.refused("timeline", start=now, end=far, bucket="minute")
    one = "batch_1767225600_00000000"
    assert "give one from 0 to 3" in model.refused("attempts", batch_id=one, slot=4)
    for name in ("figures", "attempts", "samples", "timeline"):
        fields = {"slot": 0} if name == "attempts" else {}
        assert "is of no batch" in model.refused(name, batch_id="batch_1_x", **fields)


def test_samples_are_narrowed_and_counted_by_their_cells(model: Model) -> None:
    tape = Tape()
    scripts = mixed_batches(tape)
    model.fold(tape.stored)
    batch_id = scripts[2].batch_id
    every = walk(model, "samples", "samples", batch_id=batch_id)
    assert len(every) == scripts[2].state.counts.generated
    first = every[0]
    label = f"{first.area} - {first.topic}"
    page = model.ask("samples", batch_id=batch_id, topic=label, with_facets=True)
    of_topic = [sample for sample in every if sample.topic == first.topic]
    assert list(page.samples) == of_topic
    counts = {t.name: t.count for t in page.facets["difficulties"]}
    assert counts == Counter(sample.difficulty for sample in of_topic)
    topics = {t.name: t.count for t in page.facets["topics"]}
    assert topics == Counter(f"{sample.area} - {sample.topic}" for sample in every)
    assert model.ask("samples", batch_id=batch_id).facets == {}
    none = model.ask("samples", model="simulated/nobody")
    assert (none.samples, none.total) == ((), 0)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_in_memory_equals_what_is_counted_anew(
    model: Model, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(running, "BLOCK", 8)
    tape = play(Random(seed), example_spec(40, slice_size=8), 60, "completed").tape
    behind = model.store.reader()
    behind.begin()  # a reader whose moment stays that of the empty log
    behind.execute("SELECT seq FROM checkpoint").fetchall()
    done = 0
    while done < len(tape.stored):
        model.fold(tape.stored[done : done + 7])
        done += 7
        kept = [_answers(model, bucket) for bucket in ("minute", "hour")]
        running._known.clear()
        assert kept == [_answers(model, bucket) for bucket in ("minute", "hour")]
    old = json.loads(json.dumps(running.tally(behind, {"models": "model"})))
    assert old == {"models": []}
    assert running.average_lengths(behind) == {}
    behind.rollback()
    rows = model.ask("timeline", bucket="minute").rows
    assert sum(row.samples for row in rows) == model.ask("statistics").total
    attempts = model.connection.execute("SELECT kind, count(*) FROM attempts GROUP BY 1")
    kinds = Counter(dict(attempts.fetchall()))
    assert sum(row.failures for row in rows) == kinds["attempt_failed"] + kinds["rejected"]
    assert sum(row.failed_slots for row in rows) == kinds["failed"]


def _answers(model: Model, bucket: str) -> tuple[Any, Any]:
    return model.ask("statistics"), model.ask("timeline", bucket=bucket)


def test_a_timeline_is_cut_into_buckets_and_says_what_each_model_did(model: Model) -> None:
    tape = Tape(step_s=10)
    for number, name in enumerate(("simulated/fast", "simulated/slow")):
        spec: BatchSpec = example_spec(5, model=name)
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec).run(failed=[1])
    model.fold(tape.stored)
    found = model.ask("timeline")
    assert (found.bucket, found.bucket_s) == ("minute", 60)
    assert found.start == datetime(2026, 1, 1, tzinfo=UTC)
    for row in found.rows:
        assert row.attempts == row.samples + row.failures
        assert row.failure_ratio == pytest.approx(row.failures / row.attempts, abs=1e-4)
        assert row.samples_per_s == pytest.approx(row.samples / 60, abs=1e-4)
    slow = model.ask("timeline", model="simulated/slow", bucket="day").rows
    assert [(row.samples, row.failures, row.failed_slots) for row in slow] == [(4, 1, 1)]
    assert slow[0].latency_ms.p99 == 50.0
    assert model.ask("timeline", provider="nobody").rows == ()
    of_batch = model.ask("timeline", batch_id="batch_1767225600_00000001", bucket="day").rows
    assert of_batch == slow
    seconds = model.ask("timeline", batch_id="batch_1767225600_00000001")
    assert (seconds.bucket, seconds.bucket_s) == ("second", 1)
    assert sum(row.samples for row in seconds.rows) == 4
    assert len(seconds.rows) == 6  # four samples, a failure, and the slot given up for it
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert model.ask("timeline", start=later).rows == ()


def test_the_rate_of_a_bucket_that_is_not_over_is_over_the_time_that_has_passed(
    model: Model,
) -> None:
    tape = Tape(step_s=0.01)
    tape.wait(120)
    Script(tape, spec=example_spec(6)).run()
    model.fold(tape.stored)
    begin = datetime(2026, 1, 1, 0, 2, tzinfo=UTC)

    def rate(after_s: float, bucket: str = "minute", **more: Any) -> float:
        at_time = begin + timedelta(seconds=after_s)
        [row] = model.ask("timeline", bucket=bucket, at_time=at_time, **more).rows
        return float(row.samples_per_s)

    assert rate(12) == 0.5
    assert rate(1) == 1.2  # over 5 s: one second tells little
    assert rate(30, "hour") == pytest.approx(6 / 150, abs=1e-4)
    assert rate(0.5, "second", batch_id="batch_1767225600_00000001") == 6
    assert rate(60) == rate(3600) == 0.1  # it was over by then
    assert rate(12) == 0.5  # whatever is kept of the bucket
    [row] = model.ask("timeline", bucket="minute").rows
    assert row.samples_per_s == 0.1
    [row] = model.ask("timeline", bucket="minute", at_seq=len(tape.stored)).rows
    assert row.samples_per_s == 1.2  # the log had come to the minute's first second


def test_a_timeline_of_nothing_is_empty(model: Model) -> None:
    found = model.ask("timeline")
    assert (found.rows, found.start, found.end, found.as_of) == ((), None, None, 0)
