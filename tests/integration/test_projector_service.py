"""The projector as a service: bounds, pages, stuck notes, its beat and its end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream.errors import LogUnavailableError
from millstream.eventlog.log import EventLog, Head
from millstream.eventlog.nodes import Nodes
from millstream.runtime.clock import utc_now
from millstream.testing.asking import ask, is_answered, publish, refused, request
from millstream.testing.events import NODE, Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, everything
from millstream.testing.tape import Tape
from millstream.testing.waiting import BOUND_S, until
from millstream.testing.wrong_clock import WrongClock
from millstream_projector import __main__ as service
from millstream_projector import progress, projection
from millstream_projector.__main__ import main
from millstream_projector.views import board as boards
from millstream_projector.views import queries
from millstream_schemas.answers import NodeBeat

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def projecting(running: RunningLog, **settings: Any) -> AsyncIterator[EventLog]:
    """Run a projector in this process; the end of the block ends it."""
    stop = asyncio.Event()
    chosen = running.settings.model_copy(update=settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(main(chosen, stop))
        try:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(running.event_log):
                    await asyncio.sleep(0.02)
            yield running.event_log
        finally:
            stop.set()


async def test_a_log_that_is_silent_as_a_projector_starts_is_waited_for(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, asked = EventLog.head, 0

    async def silent_twice(self: EventLog) -> Head:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise LogUnavailableError("no answer within 2 s")
        return await head(self)

    monkeypatch.setattr(EventLog, "head", silent_twice)
    monkeypatch.setattr(service, "HEAD_INTERVAL_S", 0.05)
    async with projecting(running) as log:
        assert (await ask(log, "stuck")).batches == ()
    assert asked > 2


@pytest.mark.parametrize("off_s", [7200, -7200])
async def test_rates_and_the_end_are_told_in_the_logs_time(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    WrongClock(monkeypatch, off_s)
    script = Script()
    script.start()
    script.claim(0)
    script.generate(0)
    async with projecting(running) as log:
        last = await publish(log, script.tape)
        found = await ask(log, "figures", batch_id=script.batch_id, min_sequence=last)
        assert found.rates.last_minute > 0
        assert 0 <= (found.at - (await everything(log))[-1].stored_at).total_seconds() < 60
        assert (await Nodes(log.answers).live())[0].clock_ahead_s == pytest.approx(off_s, abs=3)


async def test_too_many_queries_at_once_are_told_to_come_again(running: RunningLog) -> None:
    async with projecting(running) as log:
        waiting = b'{"min_sequence": 1}'
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(request(log, "stuck", waiting)) for _ in range(80)]
        codes = sorted(task.result()[1] for task in asked)
        assert codes == ["behind"] * 64 + ["busy"] * 16
        assert (await ask(log, "stuck")).batches == ()


async def test_a_first_question_after_a_while_sees_all_that_was_stored_before_it(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ASKED_S", 0.0)
    monkeypatch.setattr(progress, "FRESHEN_MOST_S", 20.0)
    monkeypatch.setattr(projection, "UNASKED_INTERVAL_S", 3_600.0)
    script = Script()
    script.start()
    script.claim(0)
    script.claim(1)
    first, second, third = [entry.recorded.event for entry in script.tape.entries]
    async with projecting(running) as log:
        await log.append(first, expected=0)
        async with asyncio.timeout(BOUND_S):
            while (await ask(log, "stuck")).as_of < 1:
                await asyncio.sleep(0.02)
        await log.append(second, expected=0)  # the projector rests, for an hour
        assert (await ask(log, "stuck")).as_of == 2
        monkeypatch.setattr(progress, "ASKED_S", 3_600.0)  # so that it can end
        await log.append(third, expected=0)
        assert (await ask(log, "stuck")).as_of == 3


async def test_a_query_that_fails_in_an_unexpected_way_ends_no_other(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = queries.answer

    def faulty(connection: Any, name: str, *rest: Any, **more: Any) -> bytes:
        if name == "statistics":
            raise ZeroDivisionError(name)
        return answer(connection, name, *rest, **more)

    monkeypatch.setattr(queries, "answer", faulty)
    async with projecting(running) as log:
        for _ in range(2):
            error = await refused(log, "statistics", b"{}")
            assert (error.code, "log says why" in error.message) == ("failed", True)
            assert (await ask(log, "stuck")).batches == ()


async def test_a_board_that_could_not_be_loaded_is_loaded_a_while_later(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script()
    script.start()
    await publish(running.event_log, script.tape)
    survey, answer, surveys = boards.survey, queries.answer, 0

    def cut_off(connection: duckdb.DuckDBPyConnection) -> Any:
        nonlocal surveys
        surveys += 1
        if surveys == 1:
            raise duckdb.InterruptException("a query took too long")
        return survey(connection)

    def without_history(connection: Any, name: str, *rest: Any, **more: Any) -> bytes:
        assert name != "history", "only the board may answer"
        return answer(connection, name, *rest, **more)

    monkeypatch.setattr(boards, "survey", cut_off)
    monkeypatch.setattr(queries, "answer", without_history)
    monkeypatch.setattr(service, "BOARD_AGAIN_S", 0.05)
    async with projecting(running) as log:
        await until(lambda: surveys == 2, what="another try")
        async with asyncio.timeout(BOUND_S):
            while (await request(log, "history", b"{}"))[1]:
                await asyncio.sleep(0.02)
        page = await ask(log, "history")
        assert [view.id for view in page.batches] == [script.batch_id]


async def test_answers_larger_than_a_message_are_cut_into_pages(running: RunningLog) -> None:
    script = Script(spec=example_spec(40, slice_size=40))
    script.start()
    script.claim(0)
    for slot in range(40):
        script.generate(slot, {"question": f"{slot} " + "x" * 600_000})
    async with projecting(running) as log:
        last = await publish(log, script.tape)
        slots, pages, cursor = [], 0, None
        while True:
            page = await ask(log, "samples", limit=1000, cursor=cursor, min_sequence=last)
            slots += [sample.slot for sample in page.samples]
            pages += 1
            cursor = page.next_cursor
            if cursor is None:
                break
        assert slots == list(range(40))
        assert pages > 1
        events = await ask(log, "events", batch_id=script.batch_id, limit=1000)
        assert 0 < len(events.events) < 42
        assert events.next_cursor == str(events.events[-1].sequence)


async def test_a_silent_batch_shows_as_stuck_until_it_moves(running: RunningLog) -> None:
    script = Script()
    script.start()
    script.claim(0)
    script.fail_attempt(1, "timeout", "no token for 20 s")
    async with projecting(running, stuck_after_s=1.0) as log:
        nodes = Nodes(log.answers)
        beat = NodeBeat(node=NODE, service="generator", started_at=utc_now())
        await nodes.beat(beat)
        last = await publish(log, script.tape)
        async with asyncio.timeout(BOUND_S):
            while not (stuck := await ask(log, "stuck", min_sequence=last)).batches:
                await asyncio.sleep(0.05)
        finding = stuck.batches[0].stuck
        assert finding is not None
        assert (finding.rule, finding.threshold_s) == ("no_progress", 1.0)
        assert finding.cause.startswith("never produced a sample")
        expected = last
        async with asyncio.timeout(BOUND_S):
            while (await ask(log, "stuck", min_sequence=last)).batches:
                await nodes.beat(beat)
                event = script.fail_attempt(0, "rate_limit").event
                last = expected = await log.append(event, expected=expected)
                await asyncio.sleep(0.05)


async def test_stalls_of_several_rules_are_found_side_by_side(running: RunningLog) -> None:
    tape = Tape()
    scripts = {
        rule: Script(tape, batch_id=f"batch_1767225600_{number:08x}")
        for number, rule in enumerate(("poison", "stop_overdue", "no_progress", "lost_node"))
    }
    for script in scripts.values():
        script.start()
        script.claim(0, "n")
    for number in range(5):
        scripts["poison"].claim(0, f"dead-{number}")
    scripts["stop_overdue"].request_stop()
    scripts["lost_node"].claim(0, "dead-9")
    async with projecting(running, stuck_after_s=1.0) as log:
        nodes = Nodes(log.answers)
        beat = NodeBeat(node="n", service="generator", started_at=utc_now())
        last = await publish(log, tape)
        found: dict[str, str] = {}
        async with asyncio.timeout(BOUND_S):
            while len(found) < len(scripts):
                await nodes.beat(beat)
                stuck = await ask(log, "stuck", min_sequence=last)
                found = {view.stuck.rule: view.id for view in stuck.batches if view.stuck}
                await asyncio.sleep(0.2)
        assert found == {rule: script.batch_id for rule, script in scripts.items()}
        live = {beat.service: beat for beat in await nodes.live()}
        assert (live["projector"].alarm, live["projector"].unreadable) == ("", 0)


async def test_events_of_a_newer_version_are_passed_over_and_told(running: RunningLog) -> None:
    log = running.event_log
    await publish(log, Script().run().tape)
    subject = "mill.events.batch_1767225600_00000001.note"
    for payload in (b'{"type": "batch.dreamt.v9"}', b"{"):
        await log.connection.jetstream().publish(subject, payload)
    head = await log.head()
    async with projecting(running):
        batch = await ask(
            log, "batch", batch_id="batch_1767225600_00000001", min_sequence=head.last
        )
        assert batch.batch.state == "completed"
        async with asyncio.timeout(BOUND_S):
            while True:
                told = [b.unreadable for b in await Nodes(log.answers).live() if b.sequence]
                if told == [2]:
                    break
                await asyncio.sleep(0.1)


async def test_the_projector_beats_and_ends_on_sigterm(running: RunningLog, tmp_path: Path) -> None:
    script = Script().run()
    last = await publish(running.event_log, script.tape)
    process = await start_process(running, tmp_path / "views")
    try:
        async with asyncio.timeout(BOUND_S):
            while not await is_answered(running.event_log):
                await asyncio.sleep(0.05)
        answer = await ask(running.event_log, "batch", batch_id=script.batch_id, min_sequence=last)
        assert answer.batch.state == "completed"
        async with asyncio.timeout(BOUND_S):
            while not (beats := await Nodes(running.event_log.answers).live()):
                await asyncio.sleep(0.05)
        assert [(beat.service, beat.node) for beat in beats] == [("projector", "child")]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(BOUND_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def start_process(running: RunningLog, data_dir: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "MILLSTREAM_NATS_URL": running.server.url,
        "MILLSTREAM_DATA_DIR": str(data_dir),
        "MILLSTREAM_NODE": "child",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millstream_projector", env=environment
    )
