"""Digests of the tables: the same for the same log, wherever and however it was folded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from millstream.eventlog.archive import export_file
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.importing import import_file
from millstream.eventlog.log import EventLog
from millstream.testing.asking import is_answered, publish, refused, request
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog, everything, running_log
from millstream.testing.tape import Tape
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.audit.auditing import read_digests
from millstream_projector.audit.live import FileTables
from millstream_projector.audit.parts import Parts
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_schemas.audit import BUCKETS, QUERIES, Digests, RowsQuery

pytestmark = pytest.mark.anyio

SPEC = example_spec(60, slice_size=8)


@asynccontextmanager
async def projecting(running: RunningLog) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(main(running.settings, stop))
        try:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(running.event_log):
                    await asyncio.sleep(0.05)
            yield
        finally:
            stop.set()


async def audit(event_log: EventLog, name: str, body: bytes) -> Any:
    data, error = await request(event_log, name, body)
    assert not error, data
    return QUERIES[name][1].model_validate_json(data)


async def history(running: RunningLog) -> tuple[Script, int]:
    script = play(Random(5), SPEC, 150, "completed")
    return script, await publish(running.event_log, script.tape)


async def folded(running: RunningLog) -> Path:
    """Fold the log into a file that nobody has open; return its path."""
    head = await running.event_log.head()
    store = open_store(running.settings.data_dir, stream=head.created, last_sequence=head.last)
    projection = Projection(store)
    projection.advance(await everything(running.event_log))
    store.close()
    return store.path


async def test_importing_gives_the_same_digests(running: RunningLog, tmp_path: Path) -> None:
    await history(running)
    export = tmp_path / "log.jsonl"
    await export_file(running.event_log, export)
    before = await digests_of(await folded(running))
    async with running_log(tmp_path / "other") as other:
        await import_file(other.event_log, export, tell=lambda *_: None)
        after = await digests_of(await folded(other))
    assert after.tables == before.tables
    assert (after.root, after.as_of) == (before.root, before.as_of)


async def digests_of(path: Path) -> Digests:
    tables = FileTables(path)
    try:
        return await tables.digests()
    finally:
        tables.close()


async def test_digests_depend_on_the_log_and_not_on_how_it_was_cut(tmp_path: Path) -> None:
    script = play(Random(7), SPEC, 200, "stopped")
    stored = script.tape.stored
    found = []
    for seed in range(4):
        chance = Random(seed)
        store = open_store(tmp_path / str(seed), stream="s", last_sequence=10**9)
        projection = Projection(store)
        start = 0
        while start < len(stored):
            size = chance.choice((1, 3, 20, 200))
            projection.advance(stored[max(0, start - 5) : start + size])  # some come twice
            start += size
        reader = store.reader()
        found.append(read_digests(reader, node="n"))
        reader.close()
        store.close()
    assert [one.tables for one in found[1:]] == [found[0].tables] * 3
    assert {one.root for one in found} == {extend(ChainState(), stored).root.hex()}
    assert all(table.rows for table in found[0].tables.values())


async def test_the_parts_of_a_log_add_up_to_the_whole(tmp_path: Path) -> None:
    tape = Tape()
    for number in range(1, 7):
        batch_id = f"batch_1767225600_{number:08x}"
        Script(tape, batch_id=batch_id, spec=example_spec(9, slice_size=3)).run(failed=[number])
    found = []
    for name, events in (("one", 0), ("several", 10**6)):
        with Parts(tmp_path / name, events=events) as parts:
            for start in range(0, len(tape.stored), 40):
                await parts.take(tape.stored[start : start + 40])
            found.append(await parts.finish())
            hashes = {}
            for bucket in range(BUCKETS):
                hashes.update(await parts.hashes("samples", bucket))
            texts = await parts.texts("samples", list(hashes))
        assert len(hashes) == len(texts) == 6 * 8
    one, several = found
    assert several.tables == one.tables
    assert not one.findings.broken
    assert not several.findings.broken


async def test_questions_about_rows_that_make_no_sense_are_refused(running: RunningLog) -> None:
    _, last = await history(running)
    async with projecting(running):
        log = running.event_log
        body = b'{"min_sequence": %d}' % last
        digests = await audit(log, "audit_digests", body)
        answer = await log.answers.ask(f"{digests.address}.audit_digests", body, timeout_s=10)
        again = Digests.model_validate_json(answer.data)
        assert again.tables["samples"] == digests.tables["samples"]
        bad = RowsQuery(table="secrets", until=9, keys=("a",)).model_dump_json().encode()
        assert "table='secrets' is not known" in (await refused(log, "audit_rows", bad)).message
        bad = RowsQuery(table="samples", until=9).model_dump_json().encode()
        assert "bucket=None" in (await refused(log, "audit_rows", bad)).message
