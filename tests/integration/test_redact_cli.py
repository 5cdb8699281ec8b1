"""`millstream audit redact`: what it finds and erases, also when it is killed."""

import asyncio
import getpass
import json
import os
import sys
from pathlib import Path

import pytest

from millstream.cli.redact import Wanted
from millstream.errors import UsageError
from millstream.eventlog.stored import StandIn
from millstream.testing.asking import ask, is_answered, publish
from millstream.testing.erasable import PERSON, files_with, publish_person, read_whole
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio

BATCH = Script().batch_id


async def command(*words: str) -> tuple[int, str, str]:
    clean = {name: value for name, value in os.environ.items() if "MILLSTREAM_" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream.cli", "audit", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_finds_and_erases(running: RunningLog, tmp_path: Path) -> None:
    await publish_person(running.event_log)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    code, out, _ = await command("redact", BATCH, "--contains", PERSON.upper(), "--json", *where)
    assert (code, json.loads(out)["slots"]) == (0, [1, 5])
    words = ("1", "5", "--attempts", "--reason", "asked for", "--rebuild")
    code, out, _ = await command("redact", BATCH, *words, *where)
    assert (code, "content erased by redaction" in out) == (1, True)
    assert "not rebuilt: no projector answers" in out
    assert files_with(tmp_path / "nats") == []
    code, out, _ = await command("diff", BATCH, "12", "now", *where)
    assert (code, f"sample.redacted.v1 by user {getpass.getuser()} (asked for)" in out) == (0, True)


def test_what_can_not_be_erased_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="SLOT is missing"):
        Wanted((), "asked for", attempts=False, rebuild=False).check()
    for reason in ("", "x" * 501):
        with pytest.raises(UsageError, match="say in 1 to 500 characters why"):
            Wanted((1,), reason, attempts=False, rebuild=False).check()


async def test_a_rebuilt_file_holds_no_byte_of_what_was_erased(
    running: RunningLog, tmp_path: Path, plain_texts: None
) -> None:
    _, last = await publish_person(running.event_log)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(main(running.settings, stop))
        try:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(running.event_log):
                    await asyncio.sleep(0.05)
            await ask(running.event_log, "stuck", min_sequence=last)
            words = ("1", "5", "--attempts", "--rebuild", "--reason", "asked for")
            code, out, _ = await command("redact", BATCH, *words, *where)
            assert (code, "projector test: done" in out) == (0, True)
        finally:
            stop.set()
    assert files_with(tmp_path) == []


async def test_a_command_that_is_killed_is_completed_by_the_next(
    running: RunningLog, tmp_path: Path
) -> None:
    script = Script(spec=example_spec(60, slice_size=3)).run()
    last = await publish(running.event_log, script.tape)
    words = ("--nats", running.settings.nats_url, "--data", str(tmp_path), "--reason", "asked for")
    slots = [str(slot) for slot in range(60)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream.cli", "audit", "redact", BATCH, *slots, *words),
        stdout=asyncio.subprocess.DEVNULL,
    )
    subject = subjects.redaction(BATCH)
    async with asyncio.timeout(BOUND_S):
        while await running.event_log.last(subject) is None:
            await asyncio.sleep(0.005)
    process.kill()
    await process.wait()
    done = sum(stored.subject == subject for stored in await read_whole(running.event_log))
    assert 0 < done < 60
    code, _, _ = await command("redact", BATCH, *slots, *words)
    log = await read_whole(running.event_log)
    assert code == 0
    assert sum(isinstance(stored, StandIn) for stored in log) == 60
    assert sum(stored.subject == subject for stored in log) == 60
    assert [stored.sequence for stored in log] == list(range(1, len(log) + 1))
    assert files_with(tmp_path / "nats", "It is 7.") == []
    assert last < log[-1].sequence
