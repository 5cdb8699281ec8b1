"""Export and import: the same log again, or a refusal that says what is wrong with the file."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from millstream.errors import LogError, UsageError
from millstream.eventlog.archive import check_export, export_file, export_lines
from millstream.eventlog.importing import import_file
from millstream.eventlog.log import EventLog
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog, claim, everything, running_log
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


def quiet(_written: int, _total: int) -> None:
    pass


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[RunningLog]:
    async with running_log(tmp_path / "other") as log:
        yield log


async def delete(event_log: EventLog, sequence: int) -> None:
    name = f"$JS.API.STREAM.MSG.DELETE.{subjects.EVENTS}"
    answer = await event_log.answers.ask(name, json.dumps({"seq": sequence}).encode())
    assert "error" not in json.loads(answer.data)


async def exported(running: RunningLog, path: Path) -> Path:
    script = play(Random(1), example_spec(60, slice_size=8), 120, "completed")
    await publish(running.event_log, script.tape)
    await export_file(running.event_log, path)
    return path


async def test_an_import_gives_the_same_log(
    running: RunningLog, other: RunningLog, tmp_path: Path
) -> None:
    path = await exported(running, tmp_path / "log.jsonl")
    told: list[tuple[int, int]] = []
    manifest = await import_file(other.event_log, path, tell=lambda *of: told.append(of))
    before, after = await everything(running.event_log), await everything(other.event_log)
    assert after == before
    assert await other.event_log.last(before[-1].subject) == before[-1]
    assert told[-1] == (len(before), len(before)) == (manifest.count, manifest.last_sequence)
    again = await export_file(other.event_log, tmp_path / "again.jsonl")
    assert again.root == manifest.root
    assert again.stream != manifest.stream
    lines = path.read_bytes().splitlines()
    assert (tmp_path / "again.jsonl").read_bytes().splitlines()[:-1] == lines[:-1]


async def test_the_imported_log_goes_on_behind_its_fences(
    running: RunningLog, other: RunningLog, tmp_path: Path
) -> None:
    last = await running.event_log.append(claim(0), expected=0)
    await export_file(running.event_log, tmp_path / "log.jsonl")
    await import_file(other.event_log, tmp_path / "log.jsonl", tell=quiet)
    assert await other.event_log.append(claim(0, 2), expected=last) == last + 1
    with pytest.raises(LogError):
        await other.event_log.append(claim(0, 3), expected=0, bound_s=1)


async def test_holes_stay_holes(running: RunningLog, other: RunningLog, tmp_path: Path) -> None:
    script = Script().run()
    last = await publish(running.event_log, script.tape)
    for sequence in (1, 4, 5, last):
        await delete(running.event_log, sequence)
    manifest = await export_file(running.event_log, tmp_path / "log.jsonl")
    assert (manifest.first_sequence, manifest.last_sequence) == (2, last)
    await import_file(other.event_log, tmp_path / "log.jsonl", tell=quiet)
    assert await everything(other.event_log) == await everything(running.event_log)
    assert (await other.event_log.head()).last == last


async def test_an_empty_log_can_be_exported_and_imported(
    running: RunningLog, other: RunningLog, tmp_path: Path
) -> None:
    manifest = await export_file(running.event_log, tmp_path / "log.jsonl")
    assert manifest.count == 0
    await import_file(other.event_log, tmp_path / "log.jsonl", tell=quiet)
    assert (await other.event_log.head()).last == 0


async def test_one_batch_is_exported_alone_but_never_imported(
    running: RunningLog, other: RunningLog, tmp_path: Path
) -> None:
    script = play(Random(1), example_spec(20, slice_size=8), 40, "stopped")
    await publish(running.event_log, script.tape)
    path = tmp_path / "batch.jsonl"
    manifest = await export_file(running.event_log, path, batch_id=script.batch_id)
    assert 0 < manifest.count < len(script.tape.entries)
    assert check_export(path) == manifest
    with pytest.raises(UsageError, match=f"holds batch {script.batch_id} alone"):
        await import_file(other.event_log, path, tell=quiet)


async def test_a_log_with_events_takes_no_import(running: RunningLog, tmp_path: Path) -> None:
    path = await exported(running, tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match="needs an empty one"):
        await import_file(running.event_log, path, tell=quiet)


async def test_an_import_ends_when_somebody_else_writes(
    running: RunningLog, other: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.eventlog.importing.BATCH_MOST", 10)
    path = await exported(running, tmp_path / "log.jsonl")
    lines = iter(range(1))
    wrote: list[int] = []

    async def write() -> None:
        wrote.append(await other.event_log.append(claim(9, batch_id=STRANGER), expected=0))

    original = other.event_log.answers.send

    async def send(subject: str, payload: bytes, **more: Any) -> None:
        headers = more.get("headers") or {}
        if headers.get("Nats-Expected-Last-Sequence") == "20" and next(lines, None) is not None:
            await write()
        await original(subject, payload, **more)

    monkeypatch.setattr(other.event_log.answers, "send", send)
    with pytest.raises(LogError, match="refused"):
        await import_file(other.event_log, path, tell=quiet)
    assert wrote == [21]


STRANGER = "batch_1767225600_0000000f"


async def test_every_way_to_spoil_an_export_is_told(running: RunningLog, tmp_path: Path) -> None:
    path = await exported(running, tmp_path / "log.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    swapped = [lines[1], lines[0], *lines[2:]]
    changed = json.loads(lines[5])
    changed["time_us"] += 1
    manifest = json.loads(lines[-1])
    spoilt = {
        "comes after": b"".join(swapped),
        "an event was changed or moved": b"".join(
            [*lines[:5], json.dumps(changed).encode() + b"\n", *lines[6:]]
        ),
        "its manifest tells of": b"".join(lines[:7] + lines[8:]),
        "ends before its manifest": b"".join(lines[:-1]),
        "line 3 is no line of an export": b"".join([*lines[:2], b"{}\n", *lines[3:]]),
        "follows the manifest": b"".join([*lines, lines[0]]),
        "line 1 is no line": b"\xff\xfe",
        "it can't be read": None,
        "its events have the root": b"".join(
            [*lines[:-1], json.dumps({**manifest, "root": "0" * 64}).encode()]
        ).replace(b'{"kind": ', b'{"kind":'),
    }
    for words, content in spoilt.items():
        bad = tmp_path / "bad.jsonl"
        bad.unlink(missing_ok=True)
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(UsageError, match=words):
            check_export(bad)


async def test_a_payload_that_is_no_text_survives(
    running: RunningLog, other: RunningLog, tmp_path: Path
) -> None:
    await running.event_log.answers.ask(subjects.control(STRANGER), b"\xff\x00\xfe")
    path = tmp_path / "log.jsonl"
    await export_file(running.event_log, path)
    await import_file(other.event_log, path, tell=quiet)
    assert [stored.payload for stored in await everything(other.event_log)] == [b"\xff\x00\xfe"]


async def test_an_export_that_can_not_be_written_leaves_nothing(
    running: RunningLog, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="can't be written"):
        await export_file(running.event_log, tmp_path / "nowhere" / "log.jsonl")
    directory = tmp_path / "taken"
    directory.mkdir()
    with pytest.raises(UsageError, match="can't be written"):
        await export_file(running.event_log, directory)
    assert not list(tmp_path.glob("*.part"))


async def test_the_lines_end_with_the_manifest(running: RunningLog) -> None:
    await running.event_log.append(claim(0), expected=0)
    pieces = [piece async for piece in export_lines(running.event_log)]
    assert all(piece.endswith(b"\n") for piece in pieces)
    kinds = [b'"kind"' in line for line in b"".join(pieces).splitlines()]
    assert kinds == [False, True]
