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
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, claim
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
