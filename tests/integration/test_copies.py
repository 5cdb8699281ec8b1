"""Copies of the live file: whole whatever stands in the way, and never at the store's expense."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millstream.errors import QueryFailedError
from millstream_projector.jobs import copies
from millstream_projector.jobs.copies import Copies
from millstream_projector.jobs.sql import open_copy
from millstream_projector.opening import open_store
from millstream_projector.store import Store

pytestmark = pytest.mark.anyio

CHECKPOINT = "UPDATE checkpoint SET seq = seq + 1"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path, stream="a stream", last_sequence=100)
    yield store
    store.close()


def move(store: Store) -> None:
    """Let the live file change as a micro-batch changes it."""
    connection = store.reader()
    connection.execute(CHECKPOINT)
    connection.close()
    store.checkpoint += 1


def read(path: Path, directory: Path) -> int:
    connection = open_copy(path, directory, memory_limit="100MB")
    try:
        return int(connection.execute("SELECT seq FROM checkpoint").fetchall()[0][0])
    finally:
        connection.close()


@pytest.mark.parametrize("is_read", [False, True], ids=["alone", "beside a reader"])
async def test_a_copy_holds_the_last_commit(live: Store, tmp_path: Path, *, is_read: bool) -> None:
    with ThreadPoolExecutor(1) as writer:
        lender = Copies(live, writer, tmp_path)
        reader = live.reader()
        if is_read:  # its transaction is older than what the log then holds
            reader.begin()
            reader.execute("SELECT * FROM checkpoint").fetchall()
        move(live)
        async with lender.lent(1) as first:
            assert (first.as_of, read(first.path, tmp_path)) == (1, 1)
            move(live)
            async with lender.lent(0) as same, lender.lent(2) as fresh:
                assert same is first
                assert (fresh.as_of, read(fresh.path, tmp_path)) == (2, 2)
        reader.close()
        lender.clear()
    assert not lender.directory.exists()


async def test_a_full_disk_is_told_before_anything_is_written(
    live: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "RESERVE_BYTES", 2**60)
    with ThreadPoolExecutor(1) as writer:
        lender = Copies(live, writer, tmp_path)
        with pytest.raises(QueryFailedError, match="make room"):
            async with lender.lent(0):
                pass
    assert not lender.directory.exists()
