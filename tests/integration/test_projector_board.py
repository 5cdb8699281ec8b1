"""The history out of memory is the history that SQL finds in the tables, byte by byte."""

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, get_args

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.view import batch_view
from millstream.testing.events import Script
from millstream.testing.examples import example_recipe, example_spec
from millstream.testing.tape import BEGIN, Tape
from millstream_projector.changes import Changes
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.views import board as boards
from millstream_projector.views import queries
from millstream_projector.views.board import Board
from millstream_projector.views.packing import Packer
from millstream_projector.views.paging import RefusedError
from millstream_schemas import views

MODELS = ("simulated/fast", "simulated/slow", "provider/other")
RECIPES = ("example", "other")
TOPICS = (None, "Law - Torts", "Law - İstanbul", "ΣΊΣΥΦΟΣ - ß")
TEXTS = ("simulated", "SLOW", "ΣΊΣ", "ΟΣ -", "istanbul", "k", "ß", "00000003", "w - t", "x\ny", "_")
BATCHES = 24
MOST_BYTES = 900_000
Read = Callable[[duckdb.DuckDBPyConnection], Any]


class Sides:
    """A read model with its board, which can be asked for the same at once."""

    def __init__(self, path: Path) -> None:
        self.board = Board()
        self._store = open_store(path, stream="2026-01-01T00:00:00Z", last_sequence=10**9)
        self.projection = Projection(self._store, on_stored=self.board.take)
        self._connection = self._store.reader()

    async def find(self, read: Read) -> Any:
        return read(self._connection)

    def agree(
        self, request: views.HistoryQuery, most_bytes: int = MOST_BYTES
    ) -> views.BatchPage | None:
        """Return the answer that both give, None when both refuse in the same words."""

        def sql() -> bytes:
            return queries.answer(self._connection, "history", request, most_bytes=most_bytes)

        found = _told(lambda: self.board.history(request, most_bytes))
        assert found == _told(sql)
        if isinstance(found, bytes):
            return views.BatchPage.model_validate_json(found)
        return None


def _told(answer: Callable[[], bytes | None]) -> bytes | str | None:
    try:
        return answer()
    except RefusedError as refusal:
        return f"{refusal.code}: {refusal}"


def batches_by_chance(rng: Random) -> Tape:
    """Batches that begin while others run and end, some without a known cost, some for ever."""
    tape = Tape()
    scripts: list[Script] = []
    for number in range(BATCHES):
        topic = rng.choice(TOPICS)
        spec = example_spec(
            rng.randint(1, 9),
            model=rng.choice(MODELS),
            recipe=example_recipe(rng.choice(RECIPES)),
            **({"topic": topic} if topic else {}),
        )
        script = Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)
        script.start()
        scripts.append(script)
        for other in rng.sample(scripts, min(3, len(scripts))):
            _go_on(rng, other)
        tape.wait(60)
    return tape


def _go_on(rng: Random, script: Script) -> None:
    if script.state.is_final:
        return
    for index in range(script.spec.slices):
        script.claim(index)
    for slot in script.open_slots()[: rng.randint(1, 9)]:
        if rng.random() < 0.2:
            script.fail(slot)
        else:
            script.generate(slot, cost_nano_usd=rng.choice((None, 1000, 7000)))
    if not script.open_slots():
        script.complete()
    elif rng.random() < 0.4:
        script.stop()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """Both sides of what chance has made, followed from the start."""
    found = Sides(tmp_path_factory.mktemp("sides"))
    run(found.board.load(found.find))
    stored = batches_by_chance(Random(7)).stored
    for begin in range(0, len(stored), 11):
        found.projection.advance(stored[begin : begin + 11])
    return found


def run(made: Awaitable[None]) -> None:
    """Run what waits for nothing."""
    with pytest.raises(StopIteration):
        made.__await__().send(None)


def some(values: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from([value for value in values if value is not None])


MOMENTS = some([BEGIN + timedelta(minutes=n, seconds=7) for n in range(0, BATCHES, 3)])
FILTERS = st.fixed_dictionaries(
    {
        "states": st.lists(st.sampled_from(get_args(views.State)), max_size=3).map(tuple),
        "model": some((*MODELS, "nobody")),
        "recipe": some(RECIPES),
        "topic": some(TOPICS),
        "text": some(TEXTS),
        "started_after": MOMENTS,
        "started_before": MOMENTS,
        "sort": st.sampled_from(get_args(views.Sort)),
        "limit": st.integers(1, 6),
    }
)


@settings(max_examples=100, deadline=None)
@given(fields=FILTERS, most_bytes=st.sampled_from((10, 3_000, MOST_BYTES)))
def test_any_filter_finds_the_same_in_memory_and_in_the_tables(
    sides: Sides, fields: dict[str, Any], most_bytes: int
) -> None:
    request = views.HistoryQuery(**fields)
    page = sides.agree(request, most_bytes)
    if page is not None and page.next_cursor:
        sides.agree(request.model_copy(update={"cursor": page.next_cursor}), most_bytes)


@pytest.mark.parametrize("sort", get_args(views.Sort))
def test_pages_out_of_memory_join_without_gap_or_repeat(sides: Sides, sort: views.Sort) -> None:
    request = views.HistoryQuery(sort=sort, limit=5)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = sides.agree(request)
        assert page is not None
        seen += [view.id for view in page.batches]
        cursor = page.next_cursor
        request = request.model_copy(update={"cursor": cursor})
    assert len(seen) == len(set(seen)) == BATCHES


def test_cursors_that_no_page_gave_are_refused_or_read_alike(sides: Sides) -> None:
    for sort in get_args(views.Sort):
        for keys in ([0], [-1], [10**9], [0, 0], [7000, 3], [2**63 - 1, 1], [-2, 0], ["x"], []):
            cursor = base64.urlsafe_b64encode(json.dumps([sort, *keys]).encode()).decode()
            sides.agree(views.HistoryQuery(sort=sort, cursor=cursor.rstrip("="), limit=4))


def test_what_is_stored_while_the_tables_are_copied_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "PIECE", 3)
    sides = Sides(tmp_path)
    stored = batches_by_chance(Random(11)).stored
    half = len(stored) // 2
    sides.projection.advance(stored[:half])
    assert sides.board.history(views.HistoryQuery(), MOST_BYTES) is None
    ahead = iter(range(half, len(stored), 5))

    async def find(read: Read) -> Any:
        found = await sides.find(read)
        begin = next(ahead)
        sides.projection.advance(stored[begin : begin + 5])
        return found

    run(sides.board.load(find))
    for sort in get_args(views.Sort):
        sides.agree(views.HistoryQuery(sort=sort))
    for begin in ahead:
        sides.projection.advance(stored[begin : begin + 5])
    for sort in get_args(views.Sort):
        page = sides.agree(views.HistoryQuery(sort=sort))
        assert page is not None
        assert page.as_of == stored[-1].sequence
    assert len(sides.board) == BATCHES


def test_a_board_that_cannot_be_loaded_keeps_nothing_and_can_be_loaded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "PIECE", 3)
    sides = Sides(tmp_path)
    stored = batches_by_chance(Random(13)).stored
    half = len(stored) // 2
    sides.projection.advance(stored[:half])
    reads = 0

    async def find(read: Read) -> Any:
        nonlocal reads
        reads += 1
        if reads == 3:
            raise duckdb.InterruptException("a query took too long")
        return await sides.find(read)

    with pytest.raises(duckdb.InterruptException):
        run(sides.board.load(find))
    kept = repr(vars(sides.board))
    for begin in range(half, len(stored), 40):
        sides.projection.advance(stored[begin : begin + 40])
    assert repr(vars(sides.board)) == kept
    assert len(sides.board) == 0
    assert sides.board.history(views.HistoryQuery(), MOST_BYTES) is None
    run(sides.board.load(sides.find))
    for sort in get_args(views.Sort):
        assert sides.agree(views.HistoryQuery(sort=sort)) is not None


def test_a_sequence_that_the_board_is_not_told_of_yet_is_left_to_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = Sides(tmp_path)
    run(sides.board.load(sides.find))
    stored = batches_by_chance(Random(17)).stored
    sides.projection.advance(stored[:20])
    late: list[Changes] = []
    monkeypatch.setattr(sides.projection, "_on_stored", late.append)
    sequence = sides.projection.advance(stored[20:40])
    request = views.HistoryQuery(min_sequence=sequence)
    assert sides.board.history(request, MOST_BYTES) is None
    for changes in late:
        sides.board.take(changes)
    page = sides.agree(request)
    assert page is not None
    assert page.as_of == sequence


def test_views_are_packed_without_keeping_the_first_ones_texts() -> None:
    script = Script(spec=example_spec(4, instruction="SECRET in an instruction", topic="SECRET"))
    script.start()
    view = batch_view(script.state).model_dump_json()
    packer = Packer()
    packed = packer.pack(view)
    assert packer.unpack(packed) == view.encode()
    assert b"SECRET" not in packer.__dict__["_likeness"]
    assert len(packer.pack(view)) < len(view) / 3
