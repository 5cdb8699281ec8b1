"""A search through the samples of all batches finds them all, step by step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream.testing.tape_log import TapeLog
from millstream_projector.opening import open_store
from millstream_projector.past import folds
from millstream_projector.past.as_of import Past
from millstream_projector.projection import Projection
from millstream_projector.views import queries, searching
from millstream_projector.views.paging import RefusedError, encode_cursor
from millstream_schemas import analysis, views
from millstream_schemas.envelope import Contract

STRETCH = 7


class Model:
    """A read model of a tape with two batches side by side, and its answers."""

    def __init__(self, path: Path) -> None:
        tape = Tape()
        specs = [example_spec(9, model=f"simulated/{name}") for name in ("fast", "slow")]
        scripts = [
            Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)
            for number, spec in enumerate(specs)
        ]
        for script in scripts:
            script.start()
            script.claim(0)
        for slot in range(9):
            for script in scripts:
                script.generate(slot, {"question": f"What is {slot}?", "answer": f"Ä {slot}"})
        self.stored = tape.stored
        self.store = open_store(path, stream="2026-01-01T00:00:00Z", last_sequence=10**9)
        self.projection = Projection(self.store)
        self.connection: duckdb.DuckDBPyConnection = self.store.reader()

    def ask(self, **fields: Any) -> analysis.SearchPage:
        request = analysis.SearchQuery(**fields)
        body = queries.answer(self.connection, "search", request, most_bytes=900_000)
        return analysis.SearchPage.model_validate_json(body)

    def search(self, **fields: Any) -> tuple[list[views.SampleView], list[float]]:
        """Go through all steps; return what they find, and how far each was."""
        pages = [self.ask(**fields)]
        while pages[-1].next_cursor is not None:
            pages.append(self.ask(cursor=pages[-1].next_cursor, **fields))
        return [one for page in pages for one in page.samples], [page.progress for page in pages]

    def every(self) -> list[views.SampleView]:
        request = views.SamplesQuery(sort="-stored", limit=1000)
        body = queries.answer(self.connection, "samples", request, most_bytes=900_000)
        return list(views.SamplePage.model_validate_json(body).samples)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A read model that has folded nothing yet."""
    monkeypatch.setattr(searching, "STRETCH", STRETCH)
    made = Model(tmp_path)
    yield made
    made.connection.close()
    made.projection.close()
    made.store.close()


def test_a_search_finds_every_sample_step_by_step_and_tells_how_far_it_is(model: Model) -> None:
    model.projection.advance(model.stored)
    every = model.every()
    assert len(every) == 18
    for limit in (1, 3, 100):
        found, progress = model.search(text="what IS", limit=limit)
        assert found == every
        assert progress == sorted(progress)
        assert progress[-1] == 1.0
        assert len(progress) >= len(model.stored) / STRETCH
    slow = [one for one in every if one.model == "simulated/slow"]
    assert model.search(text="what is", model="simulated/slow")[0] == slow
    assert model.search(text="ä 4")[0] == [one for one in every if one.slot == 4]
    assert model.search(text="question")[0] == []  # the name of a field


def test_a_search_leaves_out_what_came_after_its_first_step(model: Model) -> None:
    model.projection.advance(model.stored[:14])
    before = model.every()
    first = model.ask(text="what is", limit=2)
    model.projection.advance(model.stored[14:])
    found = list(first.samples)
    cursor = first.next_cursor
    while cursor is not None:
        page = model.ask(text="what is", limit=2, cursor=cursor)
        found += page.samples
        cursor = page.next_cursor
    assert found == before
    with pytest.raises(RefusedError, match="is not one of an answer"):
        model.ask(text="what is", cursor="%%%")


def test_a_search_of_an_empty_log_is_over_at_once(model: Model) -> None:
    assert model.search(text="what is") == ([], [1.0])


@pytest.mark.parametrize("place", [[0, 2**63 - 1], [-1, 5], [1, 10**9], [0, 1], [9, -1]])
def test_a_cursor_that_no_search_gave_is_refused(model: Model, place: list[int]) -> None:
    model.projection.advance(model.stored)
    with pytest.raises(RefusedError, match="cursor=") as refusal:
        model.ask(text="what is", cursor=encode_cursor("search", place))
    assert refusal.value.code == "invalid"


def test_a_search_of_the_past_folds_no_batches(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.projection.advance(model.stored)
    monkeypatch.setattr(folds, "REOPENED_MOST", 0)
    past = Past(9, TapeLog(model.stored))

    def ask(name: str, request: Contract) -> bytes:
        return queries.answer(model.connection, name, request, most_bytes=900_000, past=past)

    with pytest.raises(RefusedError, match="batches that were live at 9"):
        ask("history", views.HistoryQuery())
    body = ask("search", analysis.SearchQuery(text="what is", limit=100))
    page = analysis.SearchPage.model_validate_json(body)
    expected = [one for one in model.every() if one.sequence <= 9]
    assert (list(page.samples), page.as_of) == (expected[: len(page.samples)], 9)
    assert page.samples
