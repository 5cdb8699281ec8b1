"""Erasing samples for real: the text is gone from log and tables, and the proof still holds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from millstream.domain.batch_state import BatchState
from millstream.errors import LogError, QueryFailedError, UsageError
from millstream.eventlog import redacting
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.archive import check_export, export_file
from millstream.eventlog.chain import ChainState, extend, payload_hash
from millstream.eventlog.follow import follow
from millstream.eventlog.importing import import_file
from millstream.eventlog.live import LiveBatches
from millstream.eventlog.redacting import Outcome
from millstream.eventlog.redaction import Redactions, filled
from millstream.eventlog.stored import StandIn, Stored
from millstream.testing.asking import ask, is_answered, publish
from millstream.testing.erasable import PERSON, erase, files_with, publish_person, read_whole
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.audit.live import FileTables, LiveTables, ServedTables
from millstream_projector.audit.printing import printed
from millstream_projector.audit.verifying import sealed_in_stream, verify
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_schemas.audit import VerifyReport

pytestmark = pytest.mark.anyio

BATCH = Script().batch_id


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


async def verified(
    running: RunningLog, directory: Path, live: LiveTables | None = None
) -> VerifyReport:
    return await verify(
        running.event_log,
        [await sealed_in_stream(running.event_log)],
        live,
        directory,
        steady=asyncio.get_running_loop().time,
        tell=lambda *_: None,
    )


async def fold(running: RunningLog, directory: Path, *transactions: Sequence[Stored]) -> Path:
    head = await running.event_log.head()
    store = open_store(directory, stream=head.created, last_sequence=head.last)
    projection = Projection(store)
    for transaction in transactions:
        projection.advance(transaction)
    store.finish()
    return store.path


async def test_an_erased_text_is_nowhere_and_all_else_is_as_it_was(
    running: RunningLog, tmp_path: Path
) -> None:
    script, last = await publish_person(running.event_log)
    before, state = await read_whole(running.event_log), await load_batch(running.event_log, BATCH)
    assert files_with(tmp_path / "nats")
    async with projecting(running):
        await ask(running.event_log, "stuck", min_sequence=last)
        outcome = await erase(running.event_log, script, 1, 5)
        end = (await running.event_log.head()).last
        page = await ask(running.event_log, "samples", batch_id=BATCH, min_sequence=end)
        for text, found in (("true", 0), ("What is", 4)):  # the mark is no text of a sample
            searched = await ask(running.event_log, "samples", batch_id=BATCH, text=text)
            assert searched.total == found
        told = await ask(running.event_log, "events", batch_id=BATCH, min_sequence=end)
        quality = await ask(running.event_log, "quality", batch_id=BATCH)
        report = await verified(running, tmp_path / "v", ServedTables(running.event_log.answers))
    assert files_with(tmp_path / "nats") == []
    contents = {sample.slot: sample.content for sample in page.samples}
    assert [slot for slot, content in contents.items() if content == {"redacted": True}] == [1, 5]
    assert len(contents) == quality.total_samples == 6
    assert quality.average_lengths["question"] == len("What is 0?")
    assert PERSON not in page.model_dump_json() + told.model_dump_json()
    assert [event.sequence for event in told.events][:last] == list(range(1, last + 1))
    marks = [one.event["redacted"]["erased"] for one in told.events if "redacted" in one.event]
    assert ["content"] in marks
    assert len(marks) == len(outcome.redacted) == report.redacted
    assert report.ok, printed(report)
    assert report.pending == ()
    assert all(table.agrees for table in report.tables)
    assert "messages were erased" in printed(report)
    after = await read_whole(running.event_log)
    assert [stored.sequence for stored in after] == list(range(1, end + 1))
    assert extend(ChainState(), after[:last]) == extend(ChainState(), before)
    now = await load_batch(running.event_log, BATCH)  # slot 5 was told by its slice's last event
    assert (now.counts, now.anomalies, now.phase) == (state.counts, 0, "completed")
    assert {index: tail.state.generated for index, tail in now.slices.items()} == {0: "7", 1: "7"}
    assert await erase(running.event_log, script, 1, 5) == Outcome()
    with pytest.raises(UsageError, match="SLOT=6 is none of the batch; its slots are 0 to 5"):
        await erase(running.event_log, script, 6)


async def test_texts_that_are_erased_one_after_the_other_leave_no_length(
    running: RunningLog, tmp_path: Path
) -> None:
    script, last = await publish_person(running.event_log)
    seen = await read_whole(running.event_log)
    assert len((await erase(running.event_log, script, 1, 5)).redacted) > 1
    redactions = (await read_whole(running.event_log))[last:]
    path = await fold(running, tmp_path, seen, *([stored] for stored in redactions))
    live = FileTables(path)
    report = await verified(running, tmp_path / "fresh", live)
    live.close()
    assert report.ok, printed(report)


async def test_a_projector_that_was_away_and_a_fresh_one_come_to_the_same_tables(
    running: RunningLog, tmp_path: Path, plain_texts: None
) -> None:
    script, _ = await publish_person(running.event_log)
    path = await fold(running, tmp_path, await read_whole(running.event_log))
    assert path.name in files_with(tmp_path, f"Who is {PERSON}")  # a sample's content
    await erase(running.event_log, script, 5, attempts=False)
    await erase(running.event_log, script, 1)
    live = FileTables(path)
    with pytest.raises(QueryFailedError, match="have not folded redaction"):
        await verified(running, tmp_path / "early", live)
    live.close()
    await fold(running, tmp_path, await read_whole(running.event_log))
    live = FileTables(path)
    report = await verified(running, tmp_path / "late", live)
    live.close()
    assert report.ok, printed(report)
    fresh = await fold(running, tmp_path / "fresh", await read_whole(running.event_log))
    assert files_with(fresh.parent) == []  # the old file's freed blocks may hold it


async def test_a_redaction_that_was_cut_off_is_completed_by_the_next(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, _ = await publish_person(running.event_log)

    async def killed(*_: Any) -> None:
        raise LogError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(redacting, "delete", killed)
        with pytest.raises(LogError, match="killed"):
            await erase(running.event_log, script, 5)
    path = await fold(running, tmp_path, await read_whole(running.event_log))
    live = FileTables(path)
    report = await verified(running, tmp_path / "pending", live)
    assert (report.ok, report.redacted) == (True, 0)
    (pending,) = report.pending
    assert f"message {pending} is redacted but not deleted yet" in printed(report)
    outcome = await erase(running.event_log, script, 5)
    assert (outcome.completed, outcome.redacted) == ([pending], [])
    report = await verified(running, tmp_path / "done", live)
    live.close()
    assert (report.ok, report.redacted, report.pending) == (True, 1, ())


async def test_a_removed_message_is_still_found_and_so_is_a_lie(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, _ = await publish_person(running.event_log)
    path = await fold(running, tmp_path, await read_whole(running.event_log))
    await erase(running.event_log, script, 1, attempts=False)
    await fold(running, tmp_path, await read_whole(running.event_log))
    await redacting.delete(running.event_log, 4)
    live = FileTables(path)
    report = await verified(running, tmp_path / "removed", live)
    live.close()
    assert (report.ok, report.gaps) == (False, ("4",))
    assert any("was changed, removed" in fault for one in report.chain for fault in one.faults)
    # A redaction whose hash is another: found while the message is there, and once it is gone.
    monkeypatch.setattr(redacting, "payload_hash", lambda _: bytes(32))
    monkeypatch.setattr(redacting, "delete", lambda *_: asyncio.sleep(0))
    await erase(running.event_log, script, 3, attempts=False)
    report = await verified(running, tmp_path / "lie")
    broken = {check.name: check.examples for check in report.checks if check.broken}
    assert "is not what it says it was" in broken["redactions"][0]
    monkeypatch.undo()
    with pytest.raises(LogError, match="with another payload"):
        await erase(running.event_log, script, 3)


async def test_the_root_tells_of_a_redaction_that_lies_about_a_message_that_is_gone(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, _ = await publish_person(running.event_log)
    path = await fold(running, tmp_path, await read_whole(running.event_log))
    monkeypatch.setattr(redacting, "payload_hash", lambda stored: payload_hash(stored)[::-1])
    await erase(running.event_log, script, 3, attempts=False)
    store = open_store(tmp_path, stream=(await running.event_log.head()).created, last_sequence=99)
    Projection(store).advance(await read_whole(running.event_log))
    store.close()
    live = FileTables(path)
    report = await verified(running, tmp_path / "lie", live)
    live.close()
    assert not report.ok
    assert any("was changed, removed" in fault for one in report.chain for fault in one.faults)


async def test_an_export_that_ends_before_a_redaction_says_which_one_it_lacks(
    running: RunningLog, tmp_path: Path
) -> None:
    script, _ = await publish_person(running.event_log)
    end = (await running.event_log.head()).last
    await erase(running.event_log, script, 1)
    file = tmp_path / "log.jsonl"
    await export_file(running.event_log, file, at=end)
    with pytest.raises(UsageError, match=f"was erased after its end, which is {end}, and"):
        check_export(file)
    # A redaction that was itself redacted after the end vouches for as little as for itself.
    end = (await running.event_log.head()).last
    await erase(running.event_log, script, 0, attempts=False)
    await export_file(running.event_log, file, at=end)
    with pytest.raises(UsageError, match=f"was erased after its end, which is {end}, and"):
        check_export(file)


async def test_an_export_of_a_redacted_log_brings_the_same_log_elsewhere(
    running: RunningLog, tmp_path: Path
) -> None:
    script, _ = await publish_person(running.event_log)
    await erase(running.event_log, script, 1, 5)
    # A redaction kept this one's text: it goes too.
    await erase(running.event_log, script, 0, attempts=False)
    file = tmp_path / "log.jsonl"
    manifest = await export_file(running.event_log, file)
    assert PERSON not in file.read_text(encoding="utf-8")
    lines = file.read_bytes().splitlines(keepends=True)
    erased = [line for line in lines if b'"payload_hash"' in line[-90:]]
    redactions = [line for line in lines if b'.redaction"' in line[:120]]
    assert len(erased) == len(redactions)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"".join(line for line in lines if line is not redactions[-1]))
    with pytest.raises(UsageError, match=r"which it says was erased"):
        check_export(bad)
    async with running_log(tmp_path / "other") as other:
        await import_file(other.event_log, file, tell=lambda *_: None)
        log = await read_whole(other.event_log)
        assert extend(ChainState(), log).root.hex() == manifest.root
        assert sum(isinstance(stored, StandIn) for stored in log) == len(erased)
        assert (await verified(other, tmp_path / "v")).ok


async def test_a_batch_that_runs_is_left_alone(running: RunningLog) -> None:
    script = play(Random(3), example_spec(6, slice_size=3), 20, "live")
    await publish(running.event_log, script.tape)
    end = (await running.event_log.head()).last
    with pytest.raises(UsageError, match="nodes read its events to go on"):
        await erase(running.event_log, script, 0)
    with pytest.raises(UsageError, match="is not in the log"):
        await erase(running.event_log, Script(batch_id="batch_1767225600_ffffffff"), 0)
    assert (await running.event_log.head()).last == end


async def test_a_relay_that_was_away_meets_the_hole_and_counts_as_before(
    running: RunningLog,
) -> None:
    log = running.event_log
    script, _ = await publish_person(log)
    whole = await read_whole(log)
    live = LiveBatches({}, 0)
    for stored in whole[:4]:  # then it loses the log for a while
        live.apply(stored)
    await erase(running.event_log, script, 1, 5)
    last: BatchState | None = None
    feed = filled(follow(log, after=live.sequence), Redactions(log), after=live.sequence)
    async with aclosing(feed), asyncio.timeout(BOUND_S):
        async for page in feed:
            for stored in page:
                last = live.apply(stored) or last
            if live.sequence == (await log.head()).last:
                break
    assert last is not None
    assert (last.phase, last.counts.generated, last.anomalies) == ("completed", 6, 0)
