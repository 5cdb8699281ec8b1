"""Verifying: a sound log passes, and whatever was changed in log or tables is told."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from millstream.eventlog.archive import export_file, export_line
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.checkpoints import CheckpointFile, CheckpointLog
from millstream.eventlog.importing import import_file
from millstream.eventlog.stored import Stored
from millstream.testing.asking import ask, is_answered, publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog, everything, running_log
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.audit.live import FileTables
from millstream_projector.audit.printing import printed
from millstream_projector.audit.verifying import Evidence, sealed_in_stream, verify
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_schemas import subjects
from millstream_schemas.audit import Checkpoint, VerifyReport

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


async def verified(
    running: RunningLog, directory: Path, *evidence: Evidence, file: Path | None = None
) -> VerifyReport:
    live = FileTables(file) if file else None
    try:
        return await verify(
            running.event_log,
            [await sealed_in_stream(running.event_log), *evidence],
            live,
            directory,
            steady=asyncio.get_running_loop().time,
            tell=lambda *_: None,
        )
    finally:
        if live:
            live.close()


async def vouch(running: RunningLog, path: Path) -> Evidence:
    """Return the checkpoints of the log as it is, in a file outside."""
    stored = await everything(running.event_log)
    head = await running.event_log.head()
    state = extend(ChainState(), stored)
    CheckpointFile(path).append(
        Checkpoint(
            stream=head.created,
            from_sequence=1,
            to_sequence=state.sequence,
            events=state.events,
            root=state.root.hex(),
            previous_root="0" * 64,
            node="a",
            sealed_at=stored[-1].stored_at,
        )
    )
    return Evidence(str(path), CheckpointFile(path).read(), is_binding=True)


async def test_a_running_system_verifies(running: RunningLog, tmp_path: Path) -> None:
    _, last = await history(running)
    async with projecting(running):
        await ask(running.event_log, "stuck", min_sequence=last)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "millstream_projector.audit.verify", "--json"),
            stdout=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "MILLSTREAM_NATS_URL": running.settings.nats_url,
                "MILLSTREAM_DATA_DIR": str(tmp_path),
            },
        )
        async with asyncio.timeout(BOUND_S):
            out, _ = await process.communicate()
    report = VerifyReport.model_validate_json(out)
    assert (process.returncode, report.ok, report.node) == (0, True, "test")
    assert report.events >= last
    assert all(table.agrees for table in report.tables)
    assert sum(table.live_rows for table in report.tables) > last // 2
    assert [check.broken for check in report.checks] == [0] * len(report.checks)
    assert printed(report).endswith(f"verified ({report.seconds:.1f} s)")


async def test_a_changed_row_of_the_live_table_is_printed(
    running: RunningLog, tmp_path: Path
) -> None:
    await history(running)
    path = await folded(running)
    with duckdb.connect(str(path)) as connection:
        row = connection.execute("SELECT min(seq), max(seq) FROM samples").fetchone()
        assert row is not None
        connection.execute("UPDATE samples SET topic = 'Forged' WHERE seq = ?", [row[0]])
        connection.execute("DELETE FROM samples WHERE seq = ?", [row[1]])
        connection.execute(
            "UPDATE batches SET view = replace(view, '\"generated\":', '\"generated\":9')"
        )
    report = await verified(running, tmp_path / "fresh", file=path)
    assert not report.ok
    by_name = {table.table: table for table in report.tables}
    assert {name for name, table in by_name.items() if not table.agrees} == {"samples", "batches"}
    samples = by_name["samples"]
    assert (samples.differing, samples.log_rows - samples.live_rows) == (2, 1)
    changed, removed = samples.differences
    assert (changed.key, removed.key) == (str(row[0]), str(row[1]))
    assert changed.live is not None
    assert changed.log is not None
    assert (changed.live["topic"], removed.live) == ("Forged", None)
    text = printed(report)
    assert f'{row[0]}: topic is "Forged" live, ' in text
    assert f"{row[1]}: only in the log" in text
    assert "view.counts.generated is 9" in text
    assert text.splitlines()[-1].startswith("NOT VERIFIED")


async def test_a_removed_event_is_told(running: RunningLog, tmp_path: Path) -> None:
    await history(running)
    evidence = await vouch(running, tmp_path / "checkpoints.jsonl")
    path = await folded(running)
    name = f"$JS.API.STREAM.MSG.DELETE.{subjects.EVENTS}"
    await running.event_log.answers.ask(name, json.dumps({"seq": 40}).encode())
    report = await verified(running, tmp_path / "fresh", evidence, file=path)
    assert not report.ok
    assert report.gaps == ("40",)
    assert "an event after 0 was changed, removed" in report.chain[1].faults[0]
    assert "the log lacks 40" in printed(report)


def change_a_bit(items: list[Stored], chance: Random) -> list[Stored]:
    place = chance.randrange(len(items))
    stored = items[place]
    text = stored.payload.replace(b'"tokens_in":', b'"tokens_in":1', 1)
    if text == stored.payload:
        text = stored.payload.replace(b'"time":"2026', b'"time":"2027', 1)
    changed = Stored(stored.sequence, stored.time_us, stored.subject, text, stored.headers)
    return [*items[:place], changed, *items[place + 1 :]]


def insert_one(items: list[Stored], chance: Random) -> list[Stored]:
    place = chance.randrange(len(items))
    return [*items[:place], chance.choice(items), *items[place:]]


def swap_two(items: list[Stored], chance: Random) -> list[Stored]:
    one, other = chance.sample(range(len(items)), 2)
    changed = list(items)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


@pytest.mark.parametrize("tamper", [change_a_bit, insert_one, swap_two])
async def test_a_forged_log_with_a_sound_chain_of_its_own_is_found_by_an_outside_file(
    running: RunningLog, tmp_path: Path, tamper: Any
) -> None:
    await history(running)
    evidence = await vouch(running, tmp_path / "checkpoints.jsonl")
    forged = tamper(await everything(running.event_log), Random(3))
    export = tmp_path / "forged.jsonl"
    await export_file(running.event_log, export)
    rewrite(export, forged)
    async with running_log(tmp_path / "forged") as other:
        await import_file(other.event_log, export, tell=lambda *_: None)
        report = await verified(other, tmp_path / "fresh", evidence)
    assert not report.ok
    assert "was changed, removed, inserted or moved" in report.chain[1].faults[0]


def rewrite(path: Path, items: list[Stored]) -> None:
    """Make an export of ``items``, renumbered, whose manifest is right: a forger's work."""
    manifest = json.loads(path.read_bytes().splitlines()[-1])
    renumbered = [
        Stored(number, item.time_us, item.subject, item.payload, item.headers)
        for number, item in enumerate(items, start=1)
    ]
    chain = extend(ChainState(), renumbered)
    manifest |= {
        "count": chain.events,
        "last_sequence": chain.sequence,
        "root": chain.root.hex(),
    }
    lines = b"".join(export_line(item) for item in renumbered)
    path.write_bytes(lines + json.dumps(manifest, separators=(",", ":")).encode() + b"\n")


async def test_broken_rules_are_told_with_examples(running: RunningLog, tmp_path: Path) -> None:
    script, last = await history(running)
    documents = [json.loads(item.payload) for item in await everything(running.event_log)]
    final = next(one for one in documents if one["type"] == "batch.completed.v1")
    nameless = {key: value for key, value in final.items() if not key.endswith("ation_id")}
    nameless.pop("command_id", None)
    subject = subjects.control(script.batch_id)
    await running.event_log.answers.ask(subject, json.dumps(nameless).encode())
    await running.event_log.answers.ask(subject, b"no event")
    report = await verified(running, tmp_path / "fresh")
    broken = {check.name: check.broken for check in report.checks if check.broken}
    assert broken == {"final": 1, "attribution": 1, "anomalies": 1, "fence": 2}
    examples = {check.name: check.examples for check in report.checks}
    assert examples["attribution"] == (f"{last + 1} (batch.completed.v1): no cause",)
    assert examples["fence"][0] == f"{last + 1}: appended without a fence"
    assert report.unreadable == 1
    assert not report.ok


async def test_a_log_that_was_cut_off_and_a_newer_event_type(
    running: RunningLog, tmp_path: Path
) -> None:
    await history(running)
    evidence = await vouch(running, tmp_path / "checkpoints.jsonl")
    ahead = evidence.checkpoints[0].model_copy(
        update={"from_sequence": 10**6, "to_sequence": 10**6 + 5}
    )
    await CheckpointLog(running.event_log.answers).append(ahead, expected=0)
    body = json.dumps({"type": "batch.praised.v1"}).encode()
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    await running.event_log.answers.ask("mill.events.b.control", body, headers=headers)
    report = await verified(running, tmp_path / "fresh", evidence)
    assert "its end was cut off" in report.chain[0].faults[0]
    assert report.chain[1].faults == ()
    assert (report.unknown, report.unreadable) == (1, 0)
    assert "1 events are of a newer version's types" in printed(report)
