"""A fold by several processes makes the tables of one."""

from pathlib import Path
from random import Random
from socket import socketpair
from typing import Any

import pytest

from millstream.eventlog.stored import StandIn, Stored
from millstream.testing.redacted import redaction
from millstream.testing.sound_steps import mixed_log
from millstream_projector import step
from millstream_projector.audit import split as split_module
from millstream_projector.audit.digests import SOURCES, Buckets, bucket_sums
from millstream_projector.audit.distant import StrayBatchError
from millstream_projector.audit.split import Split
from millstream_projector.audit.wire import Channel, Told
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9

pytestmark = pytest.mark.anyio


def opened(path: Path) -> Store:
    return open_store(path, stream=STREAM, last_sequence=FAR)


def contents(store: Store) -> tuple[dict[str, Buckets], list[Any]]:
    """Return what the tables hold, and the checkpoint; closes the store."""
    reader = store.reader()
    sums = {table: bucket_sums(reader, table, FAR) for table in SOURCES}
    checkpoint = reader.execute("SELECT seq, root, chained FROM checkpoint").fetchall()
    reader.close()
    store.close()
    return sums, checkpoint


def folded_alone(path: Path, log: list[Stored]) -> tuple[dict[str, Buckets], list[Any]]:
    """Fold as a projector does that keeps up: a few events at a time."""
    store = opened(path)
    projection = Projection(store)
    for place in range(0, len(log), 40):
        projection.advance(log[place : place + 40])
    projection.close()
    return contents(store)


async def folded_by(
    parts: int, path: Path, log: list[Stored], rng: Random
) -> tuple[dict[str, Buckets], list[Any]]:
    """Fold with several processes."""
    store = opened(path)
    async with Split(store, parts) as split:
        place = 0
        while place < len(log):
            size = rng.randint(1, 60)
            await split.take(log[place : place + size])
            place += size
        assert await split.finish() == len(log)
    return contents(store)


@pytest.mark.parametrize("seed", range(3))
async def test_several_processes_make_the_tables_that_one_makes(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 100)
    monkeypatch.setattr(split_module, "TOLD_MOST", 20)
    rng = Random(seed)
    log = mixed_log(rng, 8, strays=False)
    samples = [stored for stored in log if b'"type":"sample.' in stored.payload]
    for stored in rng.sample(samples, 10):
        made = redaction(stored, len(log) + 1, (0, 1))
        if made is not None:
            log.append(made)
    alone = folded_alone(tmp_path / "alone", log)
    for parts in (1, 3):
        assert await folded_by(parts, tmp_path / str(parts), log, rng) == alone


async def test_a_log_with_an_event_under_another_batchs_subject_needs_one_process(
    tmp_path: Path,
) -> None:
    rng = Random(3)
    log = mixed_log(rng, 4, strays=True)
    with pytest.raises(StrayBatchError, match="stands under another batch's subject"):
        await folded_by(2, tmp_path / "two", log, rng)
    alone = folded_alone(tmp_path / "alone", log)
    assert await folded_by(1, tmp_path / "one", log, rng) == alone


def test_events_cross_to_another_process_unchanged() -> None:
    message = Stored(1, 0, "mill.events.b.note", b"{}", b"A: 1")
    stand_in = StandIn(2, 1, "mill.events.b.note", b"{}", b"", b"hash", 7)
    log = [message, stand_in, Stored(4, 2, "mill.events.b.note", b"[]")]
    near, far = socketpair()
    here, there = Channel(near), Channel(far)
    for told in (log[:2], log[2:], []):
        here.tell(Told.of(told, is_end=not told))
        found = there.told()
        assert (found.all_events, found.is_end) == (told, not told)
    here.end()
    with pytest.raises(EOFError):
        there.told()
    here.close()
    there.close()
