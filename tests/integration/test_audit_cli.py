"""`millstream audit`: what it prints, and its exit codes."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from millstream.cli.moments import parse_moment
from millstream.domain.digest import view_digest
from millstream.errors import UsageError
from millstream.eventlog.log import EventLog
from millstream.eventlog.refusals import append_refusal
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import TIME, RunningLog, claim
from millstream_schemas import subjects
from millstream_schemas.envelope import Actor
from millstream_schemas.refusals import CommandRefused
from millstream_schemas.views import BatchView

pytestmark = pytest.mark.anyio


async def audit(*words: str) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it printed on stdout and stderr."""
    clean = {name: value for name, value in os.environ.items() if "MILLSTREAM_" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream.cli", "audit", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def document(*words: str) -> Any:
    code, out, err = await audit(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


async def test_a_batch_is_shown_as_it_was_and_what_changed_since(
    running: RunningLog, tmp_path: Path
) -> None:
    script = Script(spec=example_spec(6, slice_size=3))
    script.start()
    script.claim(0)
    script.generate(0)
    script.stop("enough")
    last = await publish(running.event_log, script.tape)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    now = await document("show", script.batch_id, *where)
    assert now["digest"] == view_digest(BatchView.model_validate(now["batch"]))
    assert (now["batch"]["state"], now["as_of"]) == ("stopped", last)
    was = await document("show", script.batch_id, "--at", "2", *where)
    assert (was["batch"]["state"], was["batch"]["counts"]["generated"]) == ("running", 0)
    told = await document("diff", script.batch_id, "now", "3", *where)  # in either order
    assert (told["from"], told["to"]) == (3, last)
    assert told["changed"]["state"] == ["running", "stopped"]
    assert told["deeds"][0]["reason"] == "enough"
    assert told["deeds"][0]["actor"] == "user ada"
    code, out, _ = await audit("diff", script.batch_id, "1", "now", *where)
    assert (code, "batch.stop_requested.v1 by user ada (enough)" in out) == (0, True)
    code, _, err = await audit("show", script.batch_id, "--at", "2020-01-01", *where)
    assert (code, "was not in the log by then" in err) == (2, True)


async def refuse(event_log: EventLog, batch_id: str, reason: str) -> int:
    """Append a stop of ``batch_id`` that was refused; return its sequence."""
    event = CommandRefused(
        id=f"refusal-{reason}",
        source="test",
        subject=subjects.SYSTEM_COMMANDS,
        time=TIME,
        actor=Actor(kind="user", id="ada", address="10.0.0.7"),
        command_id=f"command-{reason}",
        command="stop",
        batch_id=batch_id,
        status=409,
        problem="invalid_transition",
        reason=reason,
    )
    return await append_refusal(event_log, event, expected=0)


async def test_commands_refused_after_the_batchs_end_are_shown_up_to_the_moment_asked_for(
    running: RunningLog, tmp_path: Path
) -> None:
    script = Script().run()
    last = await publish(running.event_log, script.tape)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    early = await refuse(running.event_log, script.batch_id, "early")
    late = await refuse(running.event_log, script.batch_id, "late")
    await refuse(running.event_log, "batch_1767225600_0000beef", "another's")

    async def refused(*at: str) -> list[str]:
        shown = await document("show", script.batch_id, *at, *where)
        assert shown["as_of"] == last
        return [refusal["event"]["reason"] for refusal in shown["refused"]]

    async with asyncio.TaskGroup() as tasks:
        now = tasks.create_task(refused())
        by_sequence = tasks.create_task(refused("--at", str(early)))
        by_end = tasks.create_task(refused("--at", str(last)))
        stored = await running.event_log.last_of([subjects.SYSTEM_COMMANDS], until=early)
        time = stored[subjects.SYSTEM_COMMANDS].stored_at
        by_time = tasks.create_task(refused("--at", time.isoformat()))
    assert now.result() == ["early", "late"]
    assert (by_sequence.result(), by_end.result(), by_time.result()) == (["early"], [], ["early"])
    code, _, err = await audit("show", script.batch_id, "--at", str(late + 2), *where)
    assert (code, "lies beyond the log's end" in err) == (2, True)


async def test_each_command_between_two_moments_is_told_with_who_from_where_and_why(
    running: RunningLog, tmp_path: Path
) -> None:
    script = Script()
    script.user = Actor(kind="user", id="ada", address="10.0.0.7")
    script.start()
    script.pause()
    script.resume()
    script.set_priority("high")
    script.request_stop()
    for entry in script.tape.entries:
        event = entry.recorded.event
        why = {"reason": f"why {entry.recorded.sequence}", "command_id": f"asked {event.id}"}
        await running.event_log.append(event.model_copy(update=why), expected=entry.expected)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    told = await document("diff", script.batch_id, "1", "now", *where)
    assert [
        (deed["actor"], deed["address"], deed["command_id"], deed["reason"])
        for deed in told["deeds"]
    ] == [
        ("user ada", "10.0.0.7", f"asked {entry.recorded.event.id}", f"why {number}")
        for number, entry in enumerate(script.tape.entries[1:], start=2)
    ]
    code, out, _ = await audit("diff", script.batch_id, "1", "now", *where)
    assert (code, "batch.paused.v1 by user ada from 10.0.0.7 (why 2)" in out) == (0, True)


async def test_a_log_moves_to_an_empty_directory(running: RunningLog, tmp_path: Path) -> None:
    for number in range(1, 4):
        await running.event_log.append(claim(0, number), expected=number - 1)
    where = ("--nats", running.settings.nats_url, "--data", str(tmp_path))
    file, new = str(tmp_path / "log.jsonl"), str(tmp_path / "new")
    written = await document("export", file, *where)
    assert (await document("checkpoints", *where)) == {"checkpoints": [], "alarms": {}}
    brought = await document("import", file, "--data", new)
    assert brought == written
    code, _, err = await audit("import", file, "--data", new)
    assert (code, "needs an empty one" in err) == (2, True)
    again = await document("export", str(tmp_path / "again.jsonl"), "--data", new)
    assert again["root"] == written["root"]
    code, _, err = await audit("export", file, "--data", str(tmp_path / "nothing"))
    assert (code, "holds no log" in err) == (2, True)
    code, _, err = await audit("rebuild", *where)
    assert (code, "no projector answers" in err) == (1, True)
    code, _, err = await audit("verify", *where)
    assert (code, "--log-only" in err) == (1, True)


def test_a_moment_is_a_sequence_or_a_time() -> None:
    assert parse_moment("12").sequence == 12
    assert parse_moment("now") == parse_moment(None)
    assert parse_moment("2026-01-31T12:00:00Z") == parse_moment("2026-01-31T12:00:00")
    with pytest.raises(UsageError, match="'yesterday' is no moment"):
        parse_moment("yesterday")
