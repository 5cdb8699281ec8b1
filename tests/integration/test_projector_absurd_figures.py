"""A log may hold any number that a provider told: every answer about it can be read."""

from pathlib import Path

import pytest

from millstream.testing.folds import absurd_log
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.views import queries
from millstream_schemas import analysis, views
from millstream_schemas.envelope import EXACT_MOST

BATCH = "batch_1767225600_00000001"


@pytest.mark.parametrize(
    "query",
    [
        analysis.FiguresQuery(batch_id=BATCH),
        analysis.TimelineQuery(),
        analysis.TimelineQuery(batch_id=BATCH, bucket="second"),
        views.PlainQuery(),
        views.BatchQuery(batch_id=BATCH),
    ],
    ids=["figures", "timeline", "batch-timeline", "statistics", "quality"],
)
def test_absurd_numbers_of_an_old_log_stop_at_the_greatest_exact_one(
    tmp_path: Path, query: views.Query
) -> None:
    names = {"PlainQuery": "statistics", "BatchQuery": "quality"}
    name = names.get(type(query).__name__, type(query).__name__.removesuffix("Query").lower())
    _, answer = {**views.QUERIES, **analysis.QUERIES}[name]
    store = open_store(tmp_path, stream="2026-01-01T00:00:00Z", last_sequence=10**9)
    Projection(store).advance(absurd_log())
    body = queries.answer(store.reader(), name, query, most_bytes=900_000)
    answer.model_validate_json(body)
    assert str(EXACT_MOST).encode() in body
