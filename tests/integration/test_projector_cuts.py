"""The tables are the same however the log is cut into transactions, and whatever fails between."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from millstream.eventlog.lean import LeanReader
from millstream.eventlog.stored import Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.sound_steps import mixed_log, plain_fold
from millstream_projector import projection as projection_module
from millstream_projector import step
from millstream_projector.audit.digests import SOURCES, Buckets, bucket_sums
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store, StoreError

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9


def opened(path: Path, **fields: Any) -> Store:
    return open_store(path, **{"stream": STREAM, "last_sequence": FAR, **fields})


def rows(store: Store, sql: str) -> list[Any]:
    reader = store.reader()
    try:
        return reader.execute(sql).fetchall()
    finally:
        reader.close()


def assert_holds_the_fold(store: Store, log: list[Stored]) -> None:
    for batch_id, state in plain_fold(log).items():
        loaded = store.load(batch_id)
        assert loaded is not None
        assert loaded.state == state


def digests(store: Store) -> dict[str, Buckets]:
    reader = store.reader()
    try:
        return {table: bucket_sums(reader, table, FAR) for table in SOURCES}
    finally:
        reader.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_tables_are_the_same_however_the_log_is_cut_and_read(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 40)  # large ones that are many all the same
    monkeypatch.setattr(projection_module, "PIECE", 7)
    rng = Random(seed)
    log = mixed_log(rng, 3, strays=True)
    found: list[tuple[dict[str, Buckets], Any]] = []
    for way in ("one by one", "large transactions", "by the contract alone"):
        store = opened(tmp_path / way)
        projection = Projection(store)
        if way == "by the contract alone":
            projection.read = LeanReader(())
        place = 0
        while place < len(log):
            size = rng.randint(1, 40) if way != "one by one" else 1
            chunk = log[max(0, place - rng.randint(0, 3)) : place + size]
            projection.advance(chunk, is_bulk=way == "large transactions")
            place += size
        assert projection.advance(()) == len(log)
        found.append((digests(store), rows(store, "SELECT root, chained FROM checkpoint")))
        assert_holds_the_fold(store, log)
        projection.close()
        store.close()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("is_bulk", [False, True])
def test_what_could_not_be_stored_is_stored_by_the_next_call(
    tmp_path: Path, *, is_bulk: bool
) -> None:
    log = Script(spec=example_spec(20)).run().tape.stored
    store = opened(tmp_path)
    projection = Projection(store)
    projection.advance(log[:5])
    rival = store.reader()
    rival.begin()
    rival.execute("UPDATE views.checkpoint SET chained = chained")
    with pytest.raises(StoreError, match="takes no rows"):
        projection.advance(log[5:12])
    with pytest.raises(StoreError, match="takes no rows"):
        projection.advance(log[12:15])
    assert store.checkpoint == projection.snapshot.checkpoint == 5
    rival.rollback()
    rival.close()
    projection.advance(log[15:], is_bulk=is_bulk)
    assert projection.advance(()) == len(log)
    assert_holds_the_fold(store, log)
    projection.close()
    store.close()
