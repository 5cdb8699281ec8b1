"""kill -9 of a projector while events flow: on reopening, rows and checkpoint are the fold."""

import asyncio
import os
import sys
from itertools import groupby
from pathlib import Path

import pytest

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, everything
from millstream.testing.tape import Tape
from millstream.testing.waiting import BOUND_S
from millstream_projector.opening import open_store
from millstream_schemas import subjects, views
from millstream_schemas.slices import bits

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

BATCHES = 24
TARGET = 64
KILLS = 4


def history() -> Tape:
    tape = Tape()
    for number in range(BATCHES):
        script = Script(
            tape,
            batch_id=f"batch_1767225600_{number:08x}",
            spec=example_spec(TARGET, slice_size=16),
        )
        script.run(failed=[number, number + 20])
    return tape


async def publish(log: EventLog, tape: Tape, may_go_on: asyncio.Semaphore) -> None:
    """Append the tape, neighbours on one subject together, so that it goes quickly.

    Each share of it, as many as there are kills and one, waits until it may come.
    """
    share = 0
    for _, group in groupby(tape.entries, key=lambda entry: entry.recorded.event.subject):
        entries = list(group)
        while share < entries[0].recorded.sequence * (KILLS + 1) // len(tape.entries):
            await may_go_on.acquire()
            share += 1
        chain = [entry.recorded.event for entry in entries]
        last = await log.append_chain(chain, expected=entries[0].expected)
        assert last == entries[-1].recorded.sequence


async def start(running: RunningLog, data_dir: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "MILLSTREAM_NATS_URL": running.server.url,
        "MILLSTREAM_DATA_DIR": str(data_dir),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millstream_projector", env=environment
    )


async def reached(running: RunningLog, sequence: int) -> int:
    """Return the projector's checkpoint once it has come to ``sequence``."""
    body = views.PlainQuery(min_sequence=sequence).model_dump_json().encode()
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                message = await running.event_log.answers.ask(subjects.query("stuck"), body)
            except LogError:
                await asyncio.sleep(0.02)
                continue
            if not message.headers:
                return views.StuckAnswer.model_validate_json(message.data).as_of


async def test_rows_are_the_fold_after_every_kill(running: RunningLog, tmp_path: Path) -> None:
    tape = history()
    last = len(tape.entries)
    data_dir = tmp_path / "views"
    killed_at: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        process = await start(running, data_dir)
        try:
            await reached(running, 0)
            may_go_on = asyncio.Semaphore(1)  # a share is on its way at each kill
            tasks.create_task(publish(running.event_log, tape, may_go_on))
            for number in range(KILLS):
                killed_at.append(await reached(running, (number + 1) * last // (KILLS + 1)))
                process.kill()
                await process.wait()
                may_go_on.release()
                process = await start(running, data_dir)
            await reached(running, last)
        finally:
            process.kill()
            await process.wait()
    assert killed_at[0] < last, "the projector was never killed while events flowed"

    stored = await everything(running.event_log)
    head = await running.event_log.head()
    store = open_store(data_dir, stream=head.created, last_sequence=head.last)
    assert store.checkpoint == head.last == last
    states: dict[str, BatchState] = {}
    for item in stored:
        recorded = decode(item)
        assert recorded is not None
        batch_id = recorded.event.batch_id
        states[batch_id] = apply(states.get(batch_id) or BatchState(batch_id), recorded)
    for batch_id, state in states.items():
        loaded = store.load(batch_id)
        assert loaded is not None
        assert loaded.state == state
        assert state.state == "completed"
    expected = [
        (batch_id, index * 16 + offset)
        for batch_id, state in states.items()
        for index in sorted(state.slices)
        for offset in range(16)
        if bits(state.slices[index].state.generated) >> offset & 1
    ]
    reader = store.reader()
    rows = reader.execute("SELECT batch_id, slot FROM samples ORDER BY batch_id, slot").fetchall()
    assert rows == sorted(expected)
    assert len(rows) == BATCHES * (TARGET - 2)
    reader.close()
    store.close()
